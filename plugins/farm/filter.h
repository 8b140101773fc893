// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * What filter.c decides by: its limits, its verdicts, what its maps hold, and the hash. layout.py has the same in Python.
 */
#define MAX_VIPS 32
#define MAX_RULES 64
#define MAX_GROUPS 16
#define MAX_SERVERS 64
#define MAX_SLOTS 8
#define MAX_CLIENTS 4096
#define BUCKETS 65536
#define NOBODY 255
#define NO_GROUP MAX_GROUPS /* where packets without a group are counted */
#define VERDICTS 16

#define ACT_UNSPEC (-1)
#define ACT_DROP 2

#define IS_IPV4 0x0800
#define IS_ARP 0x0806
#define IS_ICMP 1
#define IS_TCP 6
#define IS_UDP 17

#define TO_HOST 0 /* skb->pkt_type */
#define TO_OTHERHOST 3

#define ETHER 14
#define IP_SOURCE 12 /* of the IPv4 header */
#define IP_TARGET 16
#define HEADERS (ETHER + 60 + 20)
#define QUOTED (8 + 60 + 4 - 20) /* what an ICMP error has more */

#define CHOSEN 0x10000 /* so that no result of a scan is 0 */

#define ON_ADDR 0
#define ON_PORT 1
#define ON_IPID 2

/* The order is that of layout.VERDICTS. */
enum verdict { PASSED, ACCEPTED, FORWARDED, NOT_OWNER, DENIED, EXPIRED, CLOSED, LOOPED, NOBODYS, MALFORMED, ANNOUNCED, UNREACHABLE };

/* Addresses and ports are kept as on the wire, so that the fast path compares without swapping. */
struct rule_t {
    u32 addr; /* 0: every VIP */
    u16 port; /* 0: every port */
    u16 proto;
    u32 choice; /* CHOSEN | filter << 8 | group */
};

struct vip_t {
    u32 addr;
    u32 row; /* CHOSEN | first entry of macs for the VIP's device */
};

struct settings_t {
    u32 me;
    u32 seed;
    u32 arp_group; /* MAX_GROUPS or more: none */
    u32 vips_used;
    u32 rules_used;
    u32 spare;
    struct vip_t vips[MAX_VIPS];
    struct rule_t rules[MAX_RULES];
};

/* Written in one piece: a packet sees either the old or the new half of the tables. */
struct gate_t {
    u32 open;
    u32 active;
};

struct owners_t {
    u8 owner[BUCKETS];
};

struct macs_t {
    u64 servers; /* how many of each row count */
    u64 mac[MAX_SLOTS * MAX_SERVERS]; /* six bytes as on the wire, then two of zero */
};

struct client_t {
    u64 mac;
    u64 seen; /* CLOCK_MONOTONIC, ns */
};

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

static __always_inline u32 bucket_of_one(u32 address, u32 seed)
{
    return jenkins(address, 0, seed + 0xdeadbeef + (1 << 2)) >> 16;
}

static __always_inline u32 bucket_of_two(u32 address, u32 other, u32 seed)
{
    return jenkins(address, other, seed + 0xdeadbeef + (2 << 2)) >> 16;
}
