// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * What filter.c decides by: its limits, its verdicts, what its maps hold, and the hash. layout.py has the same in Python.
 */
#define MAX_VIPS 32
#define MAX_VIPS6 16
#define MAX_RULES 64
#define MAX_GROUPS 16
#define MAX_SERVERS 256 /* rows of macs; numbers beyond 249 are nobody's */
#define MAX_SLOTS 8
#define MAX_CLIENTS 4096
#define MAX_FRAGMENTS 4096
#define MAX_SUPERSEDED 4096
#define HOLDERS 3
#define BUCKETS 65536
#define SLICES 256 /* of a group's buckets, for counting */
#define NOBODY 255
#define NO_GROUP MAX_GROUPS /* where packets without a group are counted */
#define VERDICTS 16

#define ACT_UNSPEC (-1)
#define ACT_DROP 2
#define GO_ON 100 /* no action of tc: the packet has a flow to judge */

#define IS_IPV4 0x0800
#define IS_IPV6 0x86dd
#define IS_ARP 0x0806
#define IS_ICMP 1
#define IS_TCP 6
#define IS_UDP 17
#define IS_FRAGMENT 44
#define IS_AUTHENTICATION 51
#define IS_ICMP6 58

#define TO_HOST 0 /* skb->pkt_type */
#define TO_OTHERHOST 3

#define ETHER 14
#define IP_SOURCE 12 /* of the IPv4 header */
#define IP_TARGET 16
#define IP6_HEADER 40
#define IP6_SOURCE 8
#define IP6_TARGET 24
#define EXTENSIONS 6 /* IPv6 headers that are walked */
#define HEADERS (ETHER + 60 + 20)
#define LARGEST 65535

#define CHOSEN 0x10000 /* so that no result of a scan is 0 */
#define UNIFORM 0x20000 /* of a rule: all rules for its protocol and VIP have its group and filter */

#define ON_ADDR 0
#define ON_PORT 1
#define ON_IPID 2

/* The order is that of layout.VERDICTS. */
enum verdict {
    PASSED, ACCEPTED, FORWARDED, NOT_OWNER, DENIED, EXPIRED, CLOSED, LOOPED,
    NOBODYS, MALFORMED, ANNOUNCED, UNREACHABLE, HELD, PARKED, ANSWERED,
};

enum kind { OPENS, SYN, SEGMENT };
enum part { WHOLE, FIRST, LATER };

/* What a rule compares, of a packet's RULE_KEY: the bits of its mask. Ports and addresses are kept as on the wire. */
#define RULE_KEY(vip, proto, port) ((u64)(vip) << 32 | (u64)(proto) << 16 | (u64)(port))

struct rule_t {
    u64 key; /* its VIP is 1 + the VIP's number */
    u64 mask;
    u64 choice; /* CHOSEN | UNIFORM | filter << 8 | group */
};

struct vip_t {
    u32 addr;
    u32 word; /* CHOSEN | slot << 8 | number */
};

struct vip6_t {
    u32 addr[4];
    u32 word;
};

struct settings_t {
    u32 me;
    u32 seed;
    u32 arp_group; /* MAX_GROUPS or more: none */
    u32 vips_used;
    u32 vips6_used;
    u32 rules_used;
    u64 vmac[MAX_SLOTS]; /* six bytes as on the wire, then two of zero; 0: none */
    struct vip_t vips[MAX_VIPS];
    struct vip6_t vips6[MAX_VIPS6];
    struct rule_t rules[MAX_RULES];
};

/*
 * Written in one piece, so that a packet sees either the old or the new half of the tables:
 * deadline of the lease << GATE_BITS | bits. The deadline is in jiffies, or with GATE_EXACT in ns of CLOCK_MONOTONIC.
 */
#define GATE_OPEN 1
#define GATE_ACTIVE 2
#define GATE_EXACT 4
#define GATE_BITS 3

struct owners_t {
    u32 entry[BUCKETS]; /* little-endian: owner, then HOLDERS holders */
};

struct macs_t {
    u64 mac[MAX_SLOTS * MAX_SERVERS]; /* six bytes as on the wire, then two of zero */
};

struct client_t {
    u64 mac;
    u64 seen; /* CLOCK_MONOTONIC, ns */
};

struct addr_t {
    u32 word[4]; /* as on the wire; IPv4: 0, 0, 0xffff, address */
};

struct datagram_t {
    struct addr_t from, to;
    u32 id;
    u32 proto;
};

struct first_t {
    u32 ports;
    u32 kind;
    u64 seen; /* CLOCK_MONOTONIC, ns */
};

/* As struct bpf_sock_tuple has it: for IPv4 the first twelve bytes. */
struct tuple_t {
    u32 word[9];
};

/* What is known of a packet once its headers are read. */
struct flow_t {
    u32 vip; /* CHOSEN | slot << 8 | number */
    u32 client; /* the client's address as one value */
    u32 ports; /* the client's, then the VIP's, as on the wire */
    u32 id; /* IP identification, or the fragments' */
    u32 at; /* where the IP header is, in the frame; for an ICMP error that of the quotation */
    u32 above; /* where the TCP header is */
    u32 proto; /* 0: neither TCP nor UDP */
    u32 part;
    u32 kind;
    u32 v6;
    u32 quoted;
    u32 from; /* of IPv4, as on the wire: the client's address and the VIP */
    u32 to;
    u32 spare;
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE(word) (word)
#define FIRST_PORT(ports) bpf_ntohs((u16)(ports))
#define SECOND_PORT(ports) ((u16)((ports) >> 16))
#define PLACED(half, place) ((u64)(half) << 16 * (place)) /* 16 bits of a u64, by their place in memory */
#else
#define LITTLE(word) __builtin_bswap32(word)
#define FIRST_PORT(ports) ((u16)((ports) >> 16))
#define SECOND_PORT(ports) ((u16)(ports))
#define PLACED(half, place) ((u64)(half) << (48 - 16 * (place)))
#endif

static __always_inline u32 turn(u32 word, u32 bits)
{
    return (word << bits) | (word >> (32 - bits));
}

/* Bob Jenkins' lookup3 for one or two words, as the kernel's jhash gives it. */
static __always_inline u32 jenkins(u32 first, u32 second, u32 start)
{
    u32 a = first + start, b = second + start, c = start;

    c ^= b; c -= turn(b, 14);
    a ^= c; a -= turn(c, 11);
    b ^= a; b -= turn(a, 25);
    c ^= b; c -= turn(b, 16);
    a ^= c; a -= turn(c, 4);
    b ^= a; b -= turn(a, 14);
    c ^= b; c -= turn(b, 24);
    return c;
}

static __always_inline u32 hash_of_one(u32 word, u32 seed)
{
    return jenkins(word, 0, seed + 0xdeadbeef + (1 << 2));
}

static __always_inline u32 hash_of_two(u32 first, u32 second, u32 seed)
{
    return jenkins(first, second, seed + 0xdeadbeef + (2 << 2));
}

/* An address of IPv6, as on the wire, as one value. */
static __always_inline u32 folded(u32 *word, u32 seed)
{
    u32 half = hash_of_two(bpf_ntohl(word[0]), bpf_ntohl(word[1]), seed);

    return hash_of_two(half ^ bpf_ntohl(word[2]), bpf_ntohl(word[3]), seed);
}
