// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * The farm's packet filter: tc ingress, direct action. docs/filter.md specifies it; reference.py is the same decision in
 * Python, and a test holds the two against each other.
 *
 * Every server has the virtual addresses (VIPs). A frame for one of them reaches one server (vmac_directed) or all
 * (vmac_invisible); the program hashes the client into one of 65,536 buckets and looks up the bucket's owner: mine -> the
 * stack gets the packet, another's -> the frame is dropped, or goes to that server by layer 2 when no other has it.
 *
 * When a bucket moves, connections stay where they are: for a segment in a moved bucket the kernel is asked which
 * server's socket it belongs to. So there is no table of flows, and nothing to synchronise.
 *
 * Numbers are hashed as values (10.0.0.1 is 0x0a000001, port 80 is 80), so that all servers agree whatever their CPU.
 *
 * Never two owners: past the lease nothing is accepted, whatever the agent does.
 */
#include <uapi/linux/bpf.h>

#include "filter.h"

/* The loader gives owners and counters as many entries as there are groups. */
BPF_TABLE("array", int, struct settings_t, settings, 1);
BPF_TABLE("array", int, u64, gate, 1);
BPF_TABLE("array", int, struct owners_t, owners, 2 * MAX_GROUPS);
BPF_TABLE("array", int, struct macs_t, macs, 2);
BPF_TABLE("hash", u64, u32, peers, MAX_SLOTS * MAX_SERVERS);
BPF_TABLE("lru_hash", struct addr_t, struct client_t, clients, MAX_CLIENTS);
BPF_TABLE("lru_hash", struct datagram_t, struct first_t, fragments, MAX_FRAGMENTS);
BPF_TABLE("lru_hash", struct tuple_t, u64, superseded, MAX_SUPERSEDED);
BPF_TABLE("percpu_array", int, struct flow_t, scratch, 1);
BPF_TABLE("percpu_array", int, u64, counters, VERDICTS * (1 + MAX_GROUPS * SLICES));

#define FRAGMENT_AGE 30000000000ULL /* ns that a datagram's fragments may come in, as in the stack */
#define SUPERSEDED_AGE 60000000000ULL

static __always_inline int counted(u32 group, u32 bucket, enum verdict verdict, int action)
{
    int index = verdict;
    u64 *counter;

    if (group < MAX_GROUPS)
        index += VERDICTS * (1 + group * SLICES + (bucket >> 8));
    counter = counters.lookup(&index);
    if (counter)
        *counter += 1;
    return action;
}

static __always_inline int refused(enum verdict verdict)
{
    return counted(NO_GROUP, 0, verdict, ACT_DROP);
}

/* The bucket's owner and holders; nobody beyond the tables that there are. */
static __always_inline u32 entry_of(u32 group, u32 bucket, u64 now)
{
    int index = group * 2 + (now >> 1 & 1);
    struct owners_t *table = owners.lookup(&index);

    return table ? LITTLE(table->entry[bucket & (BUCKETS - 1)]) : 0xffffffff;
}

/*
 * Jiffies cost next to nothing and lag by up to a few ticks; the loader ends the lease that much sooner, and has leases
 * that are too short for that read the exact clock.
 */
static __always_inline int is_shut(u64 now)
{
    if (now & GATE_EXACT)
        return bpf_ktime_get_ns() >= now >> GATE_BITS;
    return bpf_jiffies64() >= now >> GATE_BITS;
}

/* Mine: the stack has it, if this server takes anything now. */
static __always_inline int take(struct __sk_buff *skb, u64 now, u32 group, u32 bucket, enum verdict verdict)
{
    if (!(now & GATE_OPEN))
        return counted(group, bucket, CLOSED, ACT_DROP);
    if (is_shut(now))
        return counted(group, bucket, EXPIRED, ACT_DROP);
    if (skb->pkt_type == TO_OTHERHOST || (verdict == PARKED && skb->pkt_type != TO_HOST))
        bpf_skb_change_type(skb, TO_HOST);
    return counted(group, bucket, verdict, ACT_UNSPEC);
}

/* --- the other servers ---------------------------------------------------------------------------- */

/* Where a frame may go from here, and with which MACs. */
struct way_t {
    struct macs_t *macs;
    u32 row;
    u32 me;
    u64 own;
    u32 sent;
};

static __always_inline u64 mac_at(u8 *place)
{
    return PLACED(*(u16 *)place, 0) | PLACED(*(u16 *)(place + 2), 1) | PLACED(*(u16 *)(place + 4), 2);
}

/* No other server has this frame: neither did the switch give it to all, nor did a server send it on. */
static __always_inline int is_first(struct __sk_buff *skb, u32 vip, enum verdict *otherwise)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u64 from;

    *otherwise = NOT_OWNER;
    if (skb->pkt_type != TO_HOST || data + ETHER > end)
        return 0;
    *otherwise = LOOPED;
    from = mac_at(data + 6) | PLACED(vip >> 8 & (MAX_SLOTS - 1), 3);
    return !peers.lookup(&from);
}

static __always_inline int find_way(struct settings_t *set, u64 now, u32 vip, struct way_t *way)
{
    int index = now >> 1 & 1;

    way->sent = 0;
    way->macs = macs.lookup(&index);
    if (!way->macs)
        return 0;
    way->row = (vip >> 8 & (MAX_SLOTS - 1)) * MAX_SERVERS;
    way->me = set->me;
    way->own = way->macs->mac[way->row + (set->me & (MAX_SERVERS - 1))];
    return way->own != 0;
}

static __always_inline int address_to(struct __sk_buff *skb, struct way_t *way, u32 server)
{
    u64 to = way->macs->mac[way->row + (server & (MAX_SERVERS - 1))];
    u8 frame[12];

    if (!to || server == way->me)
        return 0;
    __builtin_memcpy(frame, &to, 6);
    __builtin_memcpy(frame + 6, &way->own, 6);
    return !bpf_skb_store_bytes(skb, 0, frame, sizeof(frame), 0);
}

static __always_inline void copy_to(struct __sk_buff *skb, struct way_t *way, u32 server)
{
    if (server < NOBODY && address_to(skb, way, server)) {
        bpf_clone_redirect(skb, skb->ifindex, 0);
        way->sent = 1;
    }
}

static __always_inline void copy_to_holders(struct __sk_buff *skb, struct way_t *way, u32 entry)
{
    copy_to(skb, way, entry >> 8 & 255);
    copy_to(skb, way, entry >> 16 & 255);
    copy_to(skb, way, entry >> 24);
}

/* The stack must find a frame as it came, whatever copies were made of it. */
static __always_inline void put_back(struct __sk_buff *skb, u8 *frame)
{
    bpf_skb_store_bytes(skb, 0, frame, 12, 0);
}

/* Another's: the frame goes to the bucket's owner, once. */
static __always_inline int send_to_owner(struct __sk_buff *skb, struct settings_t *set, u64 now, u32 vip, u32 group, u32 bucket, u32 owner)
{
    enum verdict otherwise;
    struct way_t way;

    if (!is_first(skb, vip, &otherwise))
        return counted(group, bucket, otherwise, ACT_DROP);
    if (!find_way(set, now, vip, &way) || !address_to(skb, &way, owner))
        return counted(group, bucket, UNREACHABLE, ACT_DROP);
    return counted(group, bucket, FORWARDED, bpf_redirect(skb->ifindex, 0));
}

/* A fragment that came before its first one: nobody knows whose it is, so every server keeps it for a while. */
static __always_inline int park(struct __sk_buff *skb, struct settings_t *set, u64 now, u32 vip, u32 group, u32 bucket)
{
    enum verdict otherwise;
    struct way_t way;
    u8 frame[12], before[12];

    if ((now & GATE_OPEN) && !is_shut(now) && is_first(skb, vip, &otherwise) && find_way(set, now, vip, &way) &&
        !bpf_skb_load_bytes(skb, 0, before, sizeof(before))) {
        __builtin_memset(frame, 0xff, 6);
        __builtin_memcpy(frame + 6, &way.own, 6);
        if (!bpf_skb_store_bytes(skb, 0, frame, sizeof(frame), 0))
            bpf_clone_redirect(skb, skb->ifindex, 0);
        put_back(skb, before);
    }
    return take(skb, now, group, bucket, PARKED);
}

/* --- whose it is ---------------------------------------------------------------------------------- */

enum held { NONE, FLEETING, FIRM };

static __always_inline int read_tuple(struct __sk_buff *skb, struct flow_t *flow, struct tuple_t *tuple)
{
    u32 word, i;

    if (flow->v6) {
        if (bpf_skb_load_bytes(skb, flow->at + IP6_SOURCE, tuple, 32))
            return 0;
        tuple->word[8] = flow->ports;
        if (flow->quoted)
#pragma unroll
            for (i = 0; i < 4; i++) {
                word = tuple->word[i];
                tuple->word[i] = tuple->word[i + 4];
                tuple->word[i + 4] = word;
            }
        return 1;
    }
    tuple->word[0] = flow->from;
    tuple->word[1] = flow->to;
    tuple->word[2] = flow->ports;
    return 1;
}

/* The kernel's socket of a connection. A listening one counts where it has sent a SYN cookie that comes back now. */
static __always_inline enum held socket_of(struct __sk_buff *skb, struct flow_t *flow, struct tuple_t *tuple)
{
    struct bpf_sock *sk;
    enum held found = NONE;
    u8 ip[40] = {}, tcp[20];
    u32 state;

    sk = bpf_skc_lookup_tcp(skb, (struct bpf_sock_tuple *)tuple, flow->v6 ? 36 : 12, BPF_F_CURRENT_NETNS, 0);
    if (!sk)
        return NONE;
    state = sk->state;
    if (state == BPF_TCP_NEW_SYN_RECV || state == BPF_TCP_TIME_WAIT)
        found = FLEETING;
    else if (state != BPF_TCP_LISTEN)
        found = FIRM;
    else if (flow->kind == SEGMENT && !flow->quoted && !bpf_skb_load_bytes(skb, flow->above, tcp, sizeof(tcp))) {
        if (flow->v6 ? !bpf_skb_load_bytes(skb, flow->at, ip, 40) : !bpf_skb_load_bytes(skb, flow->at, ip, 20))
            if (!bpf_tcp_check_syncookie(sk, ip, flow->v6 ? 40 : 20, (struct tcphdr *)tcp, sizeof(tcp)))
                found = FIRM;
    }
    bpf_sk_release(sk);
    return found;
}

/* TCP in a bucket that has moved: a SYN is the owner's, the rest is whose kernel has the connection. */
static __always_inline int judge_moved(struct __sk_buff *skb, struct settings_t *set, u64 now, u32 group, u32 bucket, u32 entry, struct flow_t *flow)
{
    u32 owner = entry & 255, mine = owner == set->me;
    struct tuple_t tuple = {};
    enum held here = NONE;
    enum verdict otherwise;
    struct way_t way;
    u8 frame[12];
    int first;
    u64 *since, clock;

    if (!read_tuple(skb, flow, &tuple))
        return refused(MALFORMED);
    if (flow->kind == SEGMENT || !mine)
        here = socket_of(skb, flow, &tuple);
    if (here == FLEETING && !mine) {
        if (flow->kind == SYN) {
            clock = bpf_ktime_get_ns();
            superseded.update(&tuple, &clock);
        } else {
            since = superseded.lookup(&tuple);
            if (since && bpf_ktime_get_ns() - *since < SUPERSEDED_AGE)
                here = NONE;
        }
    }
    if (flow->kind == SEGMENT && here)
        return take(skb, now, group, bucket, ACCEPTED);

    first = is_first(skb, flow->vip, &otherwise);
    if (first && (!find_way(set, now, flow->vip, &way) || bpf_skb_load_bytes(skb, 0, frame, sizeof(frame)))) {
        first = 0;
        otherwise = UNREACHABLE;
    }
    if (first) {
        copy_to_holders(skb, &way, entry);
        if (!mine)
            copy_to(skb, &way, owner);
    }
    if (mine && flow->kind == SYN) {
        if (first)
            put_back(skb, frame);
        return take(skb, now, group, bucket, ACCEPTED);
    }
    if (mine)
        return counted(group, bucket, HELD, ACT_DROP);
    if (!first)
        return counted(group, bucket, otherwise, ACT_DROP);
    return counted(group, bucket, way.sent ? FORWARDED : UNREACHABLE, ACT_DROP);
}

static __always_inline int judge(struct __sk_buff *skb, struct settings_t *set, u64 now, u32 group, u32 bucket, struct flow_t *flow)
{
    u32 entry = entry_of(group, bucket, now), owner = entry & 255;

    if (flow->kind != OPENS && entry >> 8 != 0xffffff)
        return judge_moved(skb, set, now, group, bucket, entry, flow);
    if (owner == set->me)
        return take(skb, now, group, bucket, ACCEPTED);
    if (owner == NOBODY)
        return counted(group, bucket, NOBODYS, ACT_DROP);
    return send_to_owner(skb, set, now, flow->vip, group, bucket, owner);
}

/* --- which packets -------------------------------------------------------------------------------- */

/*
 * Scans give a number read from the map, not the place where it was found: so the kernel's verifier follows one path
 * after the loop instead of one for each place.
 */
static __always_inline u32 vip_of(struct settings_t *set, u32 addr)
{
    u32 i;

#pragma clang loop unroll(disable)
    for (i = 0; i < MAX_VIPS; i++) {
        if (i >= set->vips_used)
            return 0;
        if (set->vips[i].addr == addr)
            return set->vips[i].word;
    }
    return 0;
}

static __always_inline u32 vip6_of(struct settings_t *set, u32 *addr)
{
    u32 i;

#pragma clang loop unroll(disable)
    for (i = 0; i < MAX_VIPS6; i++) {
        struct vip6_t *vip = &set->vips6[i];

        if (i >= set->vips6_used)
            return 0;
        if (!((vip->addr[0] ^ addr[0]) | (vip->addr[1] ^ addr[1]) | (vip->addr[2] ^ addr[2]) | (vip->addr[3] ^ addr[3])))
            return vip->word;
    }
    return 0;
}

static __always_inline u32 choice_of_rules(struct settings_t *set, u32 vip, u32 proto, u32 port, u64 parts)
{
    u64 key = RULE_KEY((vip & 255) + 1, proto, port);
    u32 i;

#pragma clang loop unroll(disable)
    for (i = 0; i < MAX_RULES; i++) {
        struct rule_t *rule = &set->rules[i];

        if (i >= set->rules_used)
            return 0;
        if (!((rule->key ^ key) & rule->mask & parts))
            return rule->choice;
    }
    return 0;
}

/* A frame that the switch gave to another machine as well is none of this VIP's. */
static __always_inline int is_foreign(struct __sk_buff *skb, struct settings_t *set, u32 vip)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u64 vmac;

    if (skb->pkt_type != TO_OTHERHOST)
        return 0;
    vmac = set->vmac[vip >> 8 & (MAX_SLOTS - 1)];
    return !vmac || data + ETHER > end || mac_at(data) != vmac;
}

static __always_inline void remember(struct addr_t *address, u64 mac)
{
    struct client_t client = {};

    client.mac = mac;
    client.seen = bpf_ktime_get_ns();
    clients.update(address, &client);
}

/* Who asks for the MAC of a VIP is answered by one server. */
static __always_inline int judge_question(struct settings_t *set, u64 now, u32 group, u32 bucket)
{
    u32 owner = entry_of(group, bucket, now) & 255;

    if (owner == NOBODY)
        return counted(group, bucket, NOBODYS, ACT_DROP);
    if (owner != set->me)
        return counted(group, bucket, NOT_OWNER, ACT_DROP);
    return GO_ON;
}

/* This server's answer with the virtual MAC inside and its own outside, so that no switch learns the virtual one. */
static __always_inline int answered(struct __sk_buff *skb, struct settings_t *set, u64 now, u32 vip, u32 group, u32 bucket, void *frame, u32 size)
{
    struct way_t way;

    if (!(now & GATE_OPEN))
        return counted(group, bucket, CLOSED, ACT_DROP);
    if (is_shut(now))
        return counted(group, bucket, EXPIRED, ACT_DROP);
    if (!find_way(set, now, vip, &way))
        return counted(group, bucket, UNREACHABLE, ACT_DROP);
    __builtin_memcpy(frame + 6, &way.own, 6);
    if (skb->len != size && bpf_skb_change_tail(skb, size, 0))
        return counted(group, bucket, UNREACHABLE, ACT_DROP);
    if (bpf_skb_store_bytes(skb, 0, frame, size, 0))
        return counted(group, bucket, UNREACHABLE, ACT_DROP);
    return counted(group, bucket, ANSWERED, bpf_redirect(skb->ifindex, 0));
}

static __always_inline int decide_arp(struct __sk_buff *skb, struct settings_t *set, u64 now)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u8 *arp = data + ETHER, frame[60] = {};
    u32 sender, target, group = set->arp_group, bucket, vip;
    struct addr_t address = {};
    u64 mac, vmac;
    int action;

    /* Ethernet, IPv4, 6, 4, request: anything else asks for no VIP. */
    if ((void *)(arp + 28) > end || *(u32 *)arp != bpf_htonl(0x00010800) || *(u32 *)(arp + 4) != bpf_htonl(0x06040001))
        return ACT_UNSPEC;
    mac = mac_at(arp + 8);
    sender = *(u16 *)(arp + 14) | (u32)*(u16 *)(arp + 16) << 16;
    target = *(u16 *)(arp + 24) | (u32)*(u16 *)(arp + 26) << 16;
    vip = vip_of(set, target);
    if (!vip || is_foreign(skb, set, vip))
        return ACT_UNSPEC;
    if (sender == target) /* another server announces the VIP: the stack would call it a duplicate address */
        return refused(ANNOUNCED);
    if (group >= MAX_GROUPS)
        return refused(DENIED);
    if (sender) {
        address.word[2] = bpf_htonl(0xffff);
        address.word[3] = sender;
        remember(&address, mac);
    }
    bucket = hash_of_one(bpf_ntohl(sender), set->seed) >> 16;
    action = judge_question(set, now, group, bucket);
    if (action != GO_ON)
        return action;
    vmac = set->vmac[vip >> 8 & (MAX_SLOTS - 1)];
    if (!vmac)
        return take(skb, now, group, bucket, ACCEPTED);
    __builtin_memcpy(frame, &mac, 6);
    *(u16 *)(frame + 12) = bpf_htons(IS_ARP);
    *(u16 *)(frame + 14) = bpf_htons(1);
    *(u16 *)(frame + 16) = bpf_htons(IS_IPV4);
    *(u16 *)(frame + 18) = bpf_htons(0x0604);
    *(u16 *)(frame + 20) = bpf_htons(2);
    __builtin_memcpy(frame + 22, &vmac, 6);
    __builtin_memcpy(frame + 28, &target, 4);
    __builtin_memcpy(frame + 32, &mac, 6);
    __builtin_memcpy(frame + 38, &sender, 4);
    return answered(skb, set, now, vip, group, bucket, frame, sizeof(frame));
}

/* --- IPv4 ----------------------------------------------------------------------------------------- */

/* What an ICMP error quotes: the start of a packet that a server sent from the VIP. room: bytes of ICMP. */
static __always_inline void read_quoted4(struct __sk_buff *skb, struct flow_t *flow, u32 icmp, u32 room, u32 vip)
{
    u32 inner[5], header, ports;
    u8 *ip = (u8 *)inner;

    if (bpf_skb_load_bytes(skb, icmp + 8, inner, sizeof(inner)) || ip[0] >> 4 != 4)
        return;
    header = (ip[0] & 15) * 4;
    if (header < 20 || room < 8 + header + 4 || *(u16 *)(ip + 6) & bpf_htons(0x1fff))
        return;
    if ((ip[9] != IS_TCP && ip[9] != IS_UDP) || inner[3] != vip)
        return;
    if (bpf_skb_load_bytes(skb, icmp + 8 + header, &ports, sizeof(ports)))
        return;
    flow->quoted = 1;
    flow->proto = ip[9];
    flow->at = icmp + 8;
    flow->from = inner[4];
    flow->client = bpf_ntohl(inner[4]);
    flow->ports = ports << 16 | ports >> 16;
    flow->kind = ip[9] == IS_TCP ? SEGMENT : OPENS;
}

static __always_inline int read_v4(struct __sk_buff *skb, struct settings_t *set, struct flow_t *flow)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u8 *ip = data + ETHER, *above, type;
    u32 header, total, destination, proto, part;

    if ((void *)(ip + 20) > end || ip[0] >> 4 != 4)
        return ACT_UNSPEC;
    destination = *(u32 *)(ip + IP_TARGET);
    flow->vip = vip_of(set, destination);
    if (!flow->vip || is_foreign(skb, set, flow->vip))
        return ACT_UNSPEC;
    header = (ip[0] & 15) * 4;
    total = bpf_ntohs(*(u16 *)(ip + 2));
    if (!total && skb->len > ETHER + LARGEST)
        total = skb->len - ETHER;
    if (header < 20 || total < header || total > skb->len - ETHER)
        return refused(MALFORMED);
    proto = ip[9];
    part = *(u16 *)(ip + 6) & bpf_htons(0x3fff); /* more fragments, or not the first */
    flow->part = !part ? WHOLE : part & bpf_htons(0x1fff) ? LATER : FIRST;
    flow->id = bpf_ntohs(*(u16 *)(ip + 4));
    flow->from = *(u32 *)(ip + IP_SOURCE);
    flow->to = destination;
    flow->client = bpf_ntohl(flow->from);
    above = ip + header;

    if (proto == IS_TCP) {
        flow->proto = IS_TCP;
        if (flow->part == LATER)
            return GO_ON;
        if (total - header < 20 || (void *)(above + 20) > end)
            return refused(MALFORMED);
        flow->ports = *(u32 *)above;
        flow->kind = (above[13] & 0x12) == 0x02 ? SYN : SEGMENT;
        flow->above = ETHER + header;
    } else if (proto == IS_UDP) {
        flow->proto = IS_UDP;
        if (flow->part == LATER)
            return GO_ON;
        if (total - header < 8 || (void *)(above + 8) > end)
            return refused(MALFORMED);
        flow->ports = *(u32 *)above;
    } else if (proto == IS_ICMP) {
        if (flow->part == LATER)
            return GO_ON;
        if (total - header < 8 || (void *)(above + 8) > end)
            return refused(MALFORMED);
        type = above[0];
        if (flow->part == WHOLE && (type == 3 || type == 11 || type == 12))
            read_quoted4(skb, flow, ETHER + header, total - header, destination);
    } else
        return refused(DENIED);
    return GO_ON;
}

/* --- IPv6 ----------------------------------------------------------------------------------------- */

struct ip6_t {
    u8 head[4];
    u16 payload;
    u8 next;
    u8 hops;
    u32 from[4];
    u32 to[4];
};

static __always_inline void read_quoted6(struct __sk_buff *skb, struct settings_t *set, struct flow_t *flow, u32 icmp, u32 room, u32 *vip)
{
    struct ip6_t inner;
    u32 ports;

    if (room < 8 + IP6_HEADER + 4 || bpf_skb_load_bytes(skb, icmp + 8, &inner, sizeof(inner)) || inner.head[0] >> 4 != 6)
        return;
    if ((inner.next != IS_TCP && inner.next != IS_UDP) || inner.from[0] != vip[0] || inner.from[1] != vip[1] ||
        inner.from[2] != vip[2] || inner.from[3] != vip[3])
        return;
    if (bpf_skb_load_bytes(skb, icmp + 8 + IP6_HEADER, &ports, sizeof(ports)))
        return;
    flow->quoted = 1;
    flow->proto = inner.next;
    flow->at = icmp + 8;
    flow->client = folded(inner.to, set->seed);
    flow->ports = ports << 16 | ports >> 16;
    flow->kind = inner.next == IS_TCP ? SEGMENT : OPENS;
}

/* Neighbour solicitation for a VIP: one server answers. */
static __always_inline int solicited(struct __sk_buff *skb, struct settings_t *set, u64 now, struct ip6_t *ip, u32 vip, u32 *target, u32 length)
{
    u32 group = set->arp_group, bucket, words[20], i;
    struct addr_t address;
    u8 frame[ETHER + 72] = {}, option[8] = {};
    int action;
    s64 sum;
    u64 vmac, to;

    if (group >= MAX_GROUPS)
        return refused(DENIED);
    if (length >= 32)
        bpf_skb_load_bytes(skb, ETHER + IP6_HEADER + 24, option, sizeof(option));
    if ((ip->from[0] | ip->from[1] | ip->from[2] | ip->from[3]) && option[0] == 1 && option[1] == 1) {
        __builtin_memcpy(&address, ip->from, 16);
        remember(&address, mac_at(option + 2));
    }
    bucket = hash_of_one(folded(ip->from, set->seed), set->seed) >> 16;
    action = judge_question(set, now, group, bucket);
    if (action != GO_ON)
        return action;
    vmac = set->vmac[vip >> 8 & (MAX_SLOTS - 1)];
    if (!vmac)
        return take(skb, now, group, bucket, ACCEPTED);

    if (bpf_skb_load_bytes(skb, 6, frame, 6))
        return refused(MALFORMED);
    frame[12] = 0x86;
    frame[13] = 0xdd;
    frame[ETHER] = 0x60;
    frame[ETHER + 5] = 32;
    frame[ETHER + 6] = IS_ICMP6;
    frame[ETHER + 7] = 255;
    __builtin_memcpy(frame + ETHER + 8, target, 16);
    frame[ETHER + 40] = 136;
    /* To an address: solicited, override. To everybody, when the question had no sender (RFC 4861, 7.2.4). */
    if (ip->from[0] | ip->from[1] | ip->from[2] | ip->from[3]) {
        __builtin_memcpy(frame + ETHER + 24, ip->from, 16);
        frame[ETHER + 44] = 0x60;
    } else {
        frame[0] = 0x33;
        frame[1] = 0x33;
        frame[2] = frame[3] = frame[4] = 0;
        frame[5] = 1;
        frame[ETHER + 24] = 0xff;
        frame[ETHER + 25] = 0x02;
        frame[ETHER + 39] = 1;
        frame[ETHER + 44] = 0x20;
    }
    __builtin_memcpy(frame + ETHER + 48, target, 16);
    frame[ETHER + 64] = 2;
    frame[ETHER + 65] = 1;
    __builtin_memcpy(frame + ETHER + 66, &vmac, 6);
    /* Check sum over addresses, length, protocol and message. */
    __builtin_memcpy(words, frame + ETHER + 8, 64);
    words[16] = bpf_htonl(32);
    words[17] = bpf_htonl(IS_ICMP6);
    sum = bpf_csum_diff(0, 0, words, 72, 0);
    if (sum < 0)
        return refused(MALFORMED);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    *(u16 *)(frame + ETHER + 42) = ~(u16)sum;
    return answered(skb, set, now, vip, group, bucket, frame, sizeof(frame));
}

/* Neighbour discovery; GO_ON when the packet is something else. */
static __always_inline int discovered(struct __sk_buff *skb, struct settings_t *set, u64 now, struct ip6_t *ip, u32 own)
{
    u32 message[6], vip, length = bpf_ntohs(ip->payload);
    u8 type;

    if (length < 24 || length + IP6_HEADER > skb->len - ETHER)
        return GO_ON;
    if (bpf_skb_load_bytes(skb, ETHER + IP6_HEADER, message, sizeof(message)))
        return GO_ON;
    type = *(u8 *)message;
    if (type != 135 && type != 136)
        return GO_ON;
    vip = vip6_of(set, message + 2);
    if (!vip)
        return own && type == 136 ? ACT_UNSPEC : GO_ON;
    if (is_foreign(skb, set, vip))
        return ACT_UNSPEC;
    if (type == 136)
        return refused(ANNOUNCED);
    return solicited(skb, set, now, ip, vip, message + 2, length);
}

static __always_inline int read_v6(struct __sk_buff *skb, struct settings_t *set, u64 now, struct flow_t *flow)
{
    u32 at = IP6_HEADER, total, next, i, type;
    u32 words[5];
    u8 *head = (u8 *)words;
    struct ip6_t ip;
    int action;

    if (bpf_skb_load_bytes(skb, ETHER, &ip, sizeof(ip)) || ip.head[0] >> 4 != 6)
        return ACT_UNSPEC;
    flow->vip = vip6_of(set, ip.to);
    if (!flow->vip && ip.next != IS_ICMP6)
        return ACT_UNSPEC;
    if (ip.next == IS_ICMP6) {
        action = discovered(skb, set, now, &ip, flow->vip);
        if (action != GO_ON)
            return action;
    }
    if (!flow->vip || is_foreign(skb, set, flow->vip))
        return ACT_UNSPEC;
    total = IP6_HEADER + bpf_ntohs(ip.payload);
    if (total == IP6_HEADER && skb->len > ETHER + LARGEST)
        total = skb->len - ETHER;
    if (total > skb->len - ETHER)
        return refused(MALFORMED);
    next = ip.next;
    flow->v6 = 1;
    flow->client = folded(ip.from, set->seed);
#pragma clang loop unroll(disable)
    for (i = 0; i < EXTENSIONS; i++) {
        if (next != 0 && next != 43 && next != 60 && next != IS_AUTHENTICATION && next != IS_FRAGMENT)
            break;
        if (at + 8 > total || bpf_skb_load_bytes(skb, ETHER + at, head, 8))
            return refused(MALFORMED);
        if (next == IS_FRAGMENT) {
            at += 8;
            flow->id = words[1];
            if (*(u16 *)(head + 2) & bpf_htons(0xfff8))
                flow->part = LATER;
            else if (*(u16 *)(head + 2) & bpf_htons(1))
                flow->part = FIRST;
            next = head[0];
            if (flow->part == LATER)
                break;
        } else {
            at += next == IS_AUTHENTICATION ? (head[1] + 2) * 4 : (head[1] + 1) * 8;
            next = head[0];
        }
    }
    if (at > total)
        return refused(MALFORMED);
    if (next != IS_TCP && next != IS_UDP && next != IS_ICMP6)
        return refused(DENIED);
    if (next != IS_ICMP6)
        flow->proto = next;
    if (flow->part == LATER)
        return GO_ON;
    if (next == IS_TCP) {
        if (total - at < 20 || bpf_skb_load_bytes(skb, ETHER + at, words, 20))
            return refused(MALFORMED);
        flow->kind = (head[13] & 0x12) == 0x02 ? SYN : SEGMENT;
        flow->above = ETHER + at;
    } else if (total - at < 8 || bpf_skb_load_bytes(skb, ETHER + at, words, 8))
        return refused(MALFORMED);
    flow->ports = words[0];
    type = head[0];
    if (next == IS_ICMP6 && flow->part == WHOLE && type >= 1 && type <= 4)
        read_quoted6(skb, set, flow, ETHER + at, total - at, ip.to);
    return GO_ON;
}

/* --- all of it ------------------------------------------------------------------------------------ */

static __always_inline void datagram_of(struct __sk_buff *skb, struct flow_t *flow, struct datagram_t *key)
{
    key->id = flow->id;
    key->proto = flow->proto | (u32)flow->v6 << 8;
    if (flow->v6)
        bpf_skb_load_bytes(skb, ETHER + IP6_SOURCE, key, 32);
    else
        bpf_skb_load_bytes(skb, ETHER + IP_SOURCE, key, 8);
}

static __always_inline int decide_ip(struct __sk_buff *skb, struct settings_t *set, u64 now, struct flow_t *flow, u32 sender)
{
    u32 choice = 0, group = set->arp_group, filter = ON_ADDR, bucket = 0, lost = 0, client = flow->client;

    if (flow->part != WHOLE && flow->proto) {
        struct datagram_t key = {};
        struct first_t value = {}, *first;

        datagram_of(skb, flow, &key);
        if (flow->part == FIRST) {
            value.ports = flow->ports;
            value.kind = flow->kind;
            value.seen = bpf_ktime_get_ns();
            fragments.update(&key, &value);
        } else {
            first = fragments.lookup(&key);
            lost = !first || bpf_ktime_get_ns() - first->seen > FRAGMENT_AGE;
            if (first && !lost) {
                flow->ports = first->ports;
                flow->kind = first->kind;
            }
        }
    }
    if (flow->proto) {
        choice = choice_of_rules(set, flow->vip, flow->proto, SECOND_PORT(flow->ports), lost ? ~(u64)0xffff : ~0ULL);
        if (flow->quoted && (!choice || (choice >> 8 & 3) == ON_IPID)) {
            choice = 0; /* the client's own IP identification is not known */
            flow->kind = OPENS;
            client = sender;
        } else if (!choice)
            return refused(DENIED);
    }
    if (choice) {
        group = choice & (MAX_GROUPS - 1);
        filter = choice >> 8 & 3;
    } else if (group >= MAX_GROUPS)
        return refused(DENIED);
    if (lost && (filter == ON_PORT || !(choice & UNIFORM)))
        group = NO_GROUP;
    else if (filter == ON_PORT)
        bucket = hash_of_two(client, FIRST_PORT(flow->ports), set->seed) >> 16;
    else if (filter == ON_IPID && !flow->v6)
        bucket = hash_of_two(client, flow->id, set->seed) >> 16;
    else
        bucket = hash_of_one(client, set->seed) >> 16;
    /* Also where the rule is known, but not which server has the connection. */
    if (lost && (group == NO_GROUP || (flow->proto == IS_TCP && entry_of(group, bucket, now) >> 8 != 0xffffff)))
        return park(skb, set, now, flow->vip, group, bucket);
    return judge(skb, set, now, group, bucket, flow);
}

int safekit_filter(struct __sk_buff *skb)
{
    u32 linear = skb->data_end - skb->data, need, sender = 0;
    struct settings_t *set;
    struct flow_t *flow;
    int zero = 0, action;
    void *data, *end;
    u64 *gated, now;
    u16 protocol;

    /* The tag is out of band. Another VLAN's frame is not for this device's addresses; VLAN 0 is a mere priority. */
    if (skb->vlan_present && skb->vlan_tci & 0xfff)
        return ACT_UNSPEC;
    /*
     * Some devices leave part of the headers outside the linear part. No more is pulled than will be read in place: a
     * pull may copy the head, and large segments often have no more than their headers there.
     */
    if (linear < skb->len && linear < HEADERS) {
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
        need = HEADERS;
        if (data + ETHER + 10 <= end)
            need = ETHER + 20 + (*(u8 *)(data + ETHER) & 15) * 4;
        if (need < ETHER + 40)
            need = ETHER + 40;
        if (linear < need)
            bpf_skb_pull_data(skb, skb->len < need ? skb->len : need);
    }
    set = settings.lookup(&zero);
    gated = gate.lookup(&zero);
    data = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    flow = scratch.lookup(&zero);
    if (!set || !gated || !flow || data + ETHER > end)
        return ACT_UNSPEC;
    now = *gated;
    protocol = *(u16 *)(data + 12);
    /* In a map and not on the stack: there the verifier would follow each combination of its values by itself. */
    __builtin_memset(flow, 0, sizeof(*flow));
    flow->at = ETHER;
    if (protocol == bpf_htons(IS_IPV4)) {
        action = read_v4(skb, set, flow);
        if (flow->quoted && !bpf_skb_load_bytes(skb, ETHER + IP_SOURCE, &sender, sizeof(sender)))
            sender = bpf_ntohl(sender);
    } else if (protocol == bpf_htons(IS_IPV6)) {
        action = read_v6(skb, set, now, flow);
        if (flow->quoted) {
            u32 words[4] = {};

            bpf_skb_load_bytes(skb, ETHER + IP6_SOURCE, words, sizeof(words));
            sender = folded(words, set->seed);
        }
    } else if (protocol == bpf_htons(IS_ARP))
        return decide_arp(skb, set, now);
    else
        return ACT_UNSPEC;
    if (action != GO_ON)
        return action;
    return decide_ip(skb, set, now, flow, sender);
}
