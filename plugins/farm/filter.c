// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * The farm's packet filter: tc ingress, direct action, mode vmac_directed.
 *
 * Every server has the virtual addresses (VIPs). A frame for one of them may arrive at any server; the program hashes
 * the client into one of 65,536 buckets and looks up the bucket's owner: mine -> the stack gets the packet, another's ->
 * the frame goes to that server by layer 2. reference.py is the same decision in Python, written from the specification;
 * a test holds the two against each other.
 *
 * Numbers are hashed as values (10.0.0.1 is 0x0a000001, port 80 is 80), so that all servers agree whatever their CPU:
 *   on_addr  jhash_1word (address, seed)
 *   on_port  jhash_2words(address, source port, seed)
 *   on_ipid  jhash_2words(address, IP identification, seed)
 * and the bucket is the upper 16 bits of the hash.
 *
 * Never two owners: past the lease, nothing that could open a connection is accepted, whatever the agent does.
 */
#include <uapi/linux/bpf.h>

#include "filter.h"

BPF_TABLE("array", int, struct settings_t, settings, 1);
BPF_TABLE("array", int, struct gate_t, gate, 1);
BPF_TABLE("array", int, u64, lease, 1);
BPF_TABLE("array", int, struct owners_t, owners, 2 * MAX_GROUPS);
BPF_TABLE("array", int, struct macs_t, macs, 2);
BPF_TABLE("lru_hash", u32, struct client_t, clients, MAX_CLIENTS);
BPF_TABLE("percpu_array", int, u64, counters, (MAX_GROUPS + 1) * VERDICTS);

static __always_inline int counted(u32 group, enum verdict verdict, int action)
{
    int index = group * VERDICTS + verdict;
    u64 *counter = counters.lookup(&index);

    if (counter)
        *counter += 1;
    return action;
}

/* The bucket's owner, or NOBODY. */
static __always_inline u32 owner_of(u32 group, u32 bucket, struct gate_t *now)
{
    int index = (now->active & 1) * MAX_GROUPS + (group & (MAX_GROUPS - 1));
    struct owners_t *table = owners.lookup(&index);

    return table ? table->owner[bucket & (BUCKETS - 1)] : NOBODY;
}

/* The coarse clock costs a tenth of the exact one. It lags by up to a tick: loader.py ends the lease that much sooner. */
static __always_inline int lease_is_over(void)
{
    int zero = 0;
    u64 *deadline = lease.lookup(&zero);

    return !deadline || bpf_ktime_get_coarse_ns() >= *deadline;
}

/* The bucket is mine: may the stack have the packet? */
static __always_inline int mine(u32 group, int is_new, struct gate_t *now)
{
    if (!now->open)
        return counted(group, CLOSED, ACT_DROP);
    if (is_new && lease_is_over())
        return counted(group, EXPIRED, ACT_DROP);
    return counted(group, ACCEPTED, ACT_UNSPEC);
}

/* The bucket is another server's: the frame goes there, once. */
static __always_inline int forward(struct __sk_buff *skb, struct settings_t *set, struct gate_t *now, u32 group, u32 owner, u32 row)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    int index = now->active & 1;
    struct macs_t *known = macs.lookup(&index);
    u8 frame[12];
    u64 from, to, own;
    u32 i;

    if (!known || data + ETHER > end)
        return counted(group, UNREACHABLE, ACT_DROP);
    /* A broadcast reached every server: its owner has it already. */
    if (skb->pkt_type != TO_HOST)
        return counted(group, NOT_OWNER, ACT_DROP);
    row &= (MAX_SLOTS - 1) * MAX_SERVERS;
    from = *(u16 *)(data + 6) | (u64)*(u16 *)(data + 8) << 16 | (u64)*(u16 *)(data + 10) << 32;
    for (i = 0; i < MAX_SERVERS; i++) {
        if (i >= known->servers)
            break;
        if (known->mac[(row + i) & (MAX_SLOTS * MAX_SERVERS - 1)] == from)
            return counted(group, LOOPED, ACT_DROP);
    }
    to = known->mac[row + (owner & (MAX_SERVERS - 1))];
    own = known->mac[row + (set->me & (MAX_SERVERS - 1))];
    if (!to || !own)
        return counted(group, UNREACHABLE, ACT_DROP);
    __builtin_memcpy(frame, &to, 6);
    __builtin_memcpy(frame + 6, &own, 6);
    if (bpf_skb_store_bytes(skb, 0, frame, sizeof(frame), 0))
        return counted(group, UNREACHABLE, ACT_DROP);
    return counted(group, FORWARDED, bpf_redirect(skb->ifindex, 0));
}

/*
 * Scans give a number read from the map, not the place where it was found: so the kernel's verifier follows one path
 * after the loop instead of one for each place.
 */
static __always_inline u32 row_of_vip(struct settings_t *set, u32 addr)
{
    u32 i;

    for (i = 0; i < MAX_VIPS; i++) {
        if (i >= set->vips_used)
            return 0;
        if (set->vips[i].addr == addr)
            return set->vips[i].row;
    }
    return 0;
}

static __always_inline u32 choice_of_rules(struct settings_t *set, u32 addr, u32 proto, u32 port, u32 any_port)
{
    u32 i;

    for (i = 0; i < MAX_RULES; i++) {
        struct rule_t *rule = &set->rules[i];

        if (i >= set->rules_used)
            return 0;
        if (rule->proto != proto || (rule->addr && rule->addr != addr))
            continue;
        if (any_port || !rule->port || rule->port == port)
            return rule->choice;
    }
    return 0;
}

static __always_inline int decide_arp(struct __sk_buff *skb, struct settings_t *set, struct gate_t *now)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u8 *arp = data + ETHER;
    u32 sender, target, owner, group = set->arp_group;
    struct client_t client = {};

    /* Ethernet, IPv4, 6, 4, request: anything else asks for no VIP. */
    if ((void *)(arp + 28) > end || *(u32 *)arp != bpf_htonl(0x00010800) || *(u32 *)(arp + 4) != bpf_htonl(0x06040001))
        return ACT_UNSPEC;
    sender = *(u16 *)(arp + 14) | (u32)*(u16 *)(arp + 16) << 16;
    target = *(u16 *)(arp + 24) | (u32)*(u16 *)(arp + 26) << 16;
    if (skb->pkt_type == TO_OTHERHOST || !row_of_vip(set, target))
        return ACT_UNSPEC;
    if (sender == target) /* another server announces the VIP: the stack would call it a duplicate address */
        return counted(NO_GROUP, ANNOUNCED, ACT_DROP);
    if (group >= MAX_GROUPS)
        return counted(NO_GROUP, DENIED, ACT_DROP);
    if (sender) {
        client.mac = *(u16 *)(arp + 8) | (u64)*(u16 *)(arp + 10) << 16 | (u64)*(u16 *)(arp + 12) << 32;
        client.seen = bpf_ktime_get_ns();
        clients.update(&sender, &client);
    }
    owner = owner_of(group, bucket_of_one(bpf_ntohl(sender), set->seed), now);
    if (owner == set->me)
        return mine(group, 1, now);
    return counted(group, owner >= MAX_SERVERS ? NOBODYS : NOT_OWNER, ACT_DROP);
}

/* What an ICMP error quotes: the start of a packet that a server sent from the VIP. */
struct quoted_t {
    u32 client; /* as a value */
    u16 from;   /* the client's port, as a value */
    u16 port;   /* the VIP's, as on the wire */
    u32 proto;
};

/* Read it; 0 when the error is not about TCP or UDP of this VIP. room: bytes of ICMP. */
static __always_inline u32 quoted(u8 *icmp, u32 room, void *end, u32 vip, struct quoted_t *packet)
{
    u8 *inner = icmp + 8, *ports;
    u32 header;

    if ((void *)(inner + 20) > end || (icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12) || inner[0] >> 4 != 4)
        return 0;
    header = (inner[0] & 15) * 4;
    ports = inner + header;
    if (header < 20 || room < 8 + header + 4 || (void *)(ports + 4) > end)
        return 0;
    if (*(u16 *)(inner + 6) & bpf_htons(0x1fff) || (inner[9] != IS_TCP && inner[9] != IS_UDP))
        return 0;
    if ((*(u16 *)(inner + IP_SOURCE) | (u32)*(u16 *)(inner + IP_SOURCE + 2) << 16) != vip) /* may be unaligned */
        return 0;
    packet->client = bpf_ntohl(*(u16 *)(inner + IP_TARGET) | (u32)*(u16 *)(inner + IP_TARGET + 2) << 16);
    packet->port = *(u16 *)ports;
    packet->from = bpf_ntohs(*(u16 *)(ports + 2));
    packet->proto = inner[9];
    return 1;
}

static __always_inline int decide_ip(struct __sk_buff *skb, struct settings_t *set, struct gate_t *now)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u8 *ip = data + ETHER, *above;
    u32 header, total, source, destination, bucket, owner, row, choice;
    u32 proto, group, filter = ON_ADDR, part, is_new = 1, port = 0, from = 0;

    if ((void *)(ip + 20) > end || ip[0] >> 4 != 4)
        return ACT_UNSPEC;
    destination = *(u32 *)(ip + IP_TARGET);
    row = row_of_vip(set, destination);
    if (!row || skb->pkt_type == TO_OTHERHOST)
        return ACT_UNSPEC;
    header = (ip[0] & 15) * 4;
    total = bpf_ntohs(*(u16 *)(ip + 2));
    if (header < 20 || total < header || total > skb->len - ETHER)
        return counted(NO_GROUP, MALFORMED, ACT_DROP);
    proto = ip[9];
    part = *(u16 *)(ip + 6) & bpf_htons(0x3fff); /* more fragments, or not the first */
    source = bpf_ntohl(*(u32 *)(ip + IP_SOURCE));

    if (proto == IS_TCP || proto == IS_UDP) {
        if (!part) {
            above = ip + header;
            if (proto == IS_TCP) {
                if (total - header < 20 || (void *)(above + 20) > end)
                    return counted(NO_GROUP, MALFORMED, ACT_DROP);
                is_new = (above[13] & 0x12) == 0x02; /* SYN without ACK */
            } else if (total - header < 8 || (void *)(above + 8) > end)
                return counted(NO_GROUP, MALFORMED, ACT_DROP);
            from = bpf_ntohs(*(u16 *)above);
            port = *(u16 *)(above + 2);
        }
        /* Fragments have no port: all those of a datagram take the same rule, and the address decides. */
        choice = choice_of_rules(set, destination, proto, port, part);
        if (!choice)
            return counted(NO_GROUP, DENIED, ACT_DROP);
        group = choice & (MAX_GROUPS - 1);
        filter = part ? ON_ADDR : choice >> 8 & 3;
    } else if (proto == IS_ICMP) {
        struct quoted_t packet = {};

        if (!part && total - header < 8)
            return counted(NO_GROUP, MALFORMED, ACT_DROP);
        /* An error belongs where its connection is: there it makes segments smaller (path MTU) or ends a wait. */
        choice = 0;
        if (!part && quoted(ip + header, total - header, end, destination, &packet))
            choice = choice_of_rules(set, destination, packet.proto, packet.port, 0);
        if (choice && (choice >> 8 & 3) != ON_IPID) {
            group = choice & (MAX_GROUPS - 1);
            filter = choice >> 8 & 3;
            source = packet.client;
            from = packet.from;
        } else {
            group = set->arp_group;
            if (group >= MAX_GROUPS)
                return counted(NO_GROUP, DENIED, ACT_DROP);
        }
    } else
        return counted(NO_GROUP, DENIED, ACT_DROP);

    if (filter == ON_PORT)
        bucket = bucket_of_two(source, from, set->seed);
    else if (filter == ON_IPID)
        bucket = bucket_of_two(source, bpf_ntohs(*(u16 *)(ip + 4)), set->seed);
    else
        bucket = bucket_of_one(source, set->seed);
    owner = owner_of(group, bucket, now);
    if (owner == set->me)
        return mine(group, is_new, now);
    if (owner >= MAX_SERVERS)
        return counted(group, NOBODYS, ACT_DROP);
    return forward(skb, set, now, group, owner, row);
}

int safekit_filter(struct __sk_buff *skb)
{
    u32 linear = skb->data_end - skb->data, need = HEADERS;
    struct settings_t *set;
    struct gate_t *now;
    int zero = 0;
    void *data, *end;
    u16 protocol;

    /*
     * Some devices leave part of the headers outside the linear part. No more is pulled than will be read: a pull may
     * copy the head, and large segments often have no more than their headers there.
     */
    if (linear < skb->len && linear < HEADERS + QUOTED) {
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
        if (data + ETHER + 10 <= end) {
            need = ETHER + 20 + (*(u8 *)(data + ETHER) & 15) * 4;
            if (need < ETHER + 40)
                need = ETHER + 40;
            if (*(u8 *)(data + ETHER + 9) == IS_ICMP)
                need += QUOTED;
        }
        if (linear < need)
            bpf_skb_pull_data(skb, skb->len < need ? skb->len : need);
    }
    /* The tag is out of band. Another VLAN's frame is not for this device's addresses; VLAN 0 is a mere priority. */
    if (skb->vlan_present && skb->vlan_tci & 0xfff)
        return ACT_UNSPEC;
    set = settings.lookup(&zero);
    now = gate.lookup(&zero);
    data = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    if (!set || !now || data + ETHER > end)
        return ACT_UNSPEC;
    protocol = *(u16 *)(data + 12);
    if (protocol == bpf_htons(IS_IPV4))
        return decide_ip(skb, set, now);
    if (protocol == bpf_htons(IS_ARP))
        return decide_arp(skb, set, now);
    return ACT_UNSPEC;
}
