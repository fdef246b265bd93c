/*
 * What the generated code of every program stands on. It needs a compiler and nothing else: no header, no library.
 *
 * Numbers of metadata are in the order of the machine, those of headers in that of the network, and lie anywhere.
 */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the order of bytes of this machine is not known here"
#endif

typedef __UINT8_TYPE__ u8;
typedef __UINT16_TYPE__ u16;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

#define ALWAYS static inline __attribute__((always_inline))

/* What the program runs with: the same as `Environment` in Rust. */
struct environment {
	void *const *tables;
	u64 *const *registers;
	int (*look_up)(void *table, void *mailbox, u8 **key, u64 *action, u8 **data, __SIZE_TYPE__ *entry, int *hit);
};

/* A packet, in and out: the same as `Packet` in Rust. */
struct packet {
	u8 *start;
	u32 length;
	u32 output;
};

/* A number of so many bytes, in the order of the machine. */
ALWAYS u64 get(const u8 *from, u32 bytes)
{
	u64 value = 0;
	__builtin_memcpy(&value, from, bytes);
	return value;
}

ALWAYS void put(u8 *to, u32 bytes, u64 value)
{
	__builtin_memcpy(to, &value, bytes);
}

/* The same in that of the network. */
ALWAYS u64 get_net(const u8 *from, u32 bytes)
{
	return __builtin_bswap64(get(from, bytes)) >> (64 - 8 * bytes);
}

ALWAYS void put_net(u8 *to, u32 bytes, u64 value)
{
	put(to, bytes, __builtin_bswap64(value) >> (64 - 8 * bytes));
}

/* The complement of a sum of ones' complements, folded to 16 bits; never 0, as SWX has it. */
ALWAYS void put_sum(u8 *to, u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	put(to, 2, sum ? sum : 0xffff);
}

/* Bytes as they lie; a sum of ones' complements has no order of bytes. */
ALWAYS void sum_add(u8 *to, u64 value)
{
	put_sum(to, (~get(to, 2) & 0xffff) + (value >> 32) + (value & 0xffffffff));
}

ALWAYS void sum_subtract(u8 *to, u64 value)
{
	/* A multiple of 0xffff, which is zero here, keeps it from becoming negative. */
	put_sum(to, (~get(to, 2) & 0xffff) + 0xffff00000 - (value >> 32) - (value & 0xffffffff));
}

ALWAYS void sum_add_all(u8 *to, const u8 *from, u32 bytes)
{
	u64 sum = ~get(to, 2) & 0xffff;
	for (u32 at = 0; at + 4 <= bytes; at += 4)
		sum += get(from + at, 4);
	put_sum(to, (sum & 0xffffffff) + (sum >> 32));
}

/* A register: one word, which the control side may look at. */
ALWAYS u64 reg_get(const u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

ALWAYS void reg_put(u64 *word, u64 value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}
