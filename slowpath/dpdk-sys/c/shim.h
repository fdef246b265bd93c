/*
 * What of DPDK cannot be bound as it is: static inline functions, thread-local variables, macros with casts, and
 * structures whose shape (not meaning) changes between releases.
 */
#ifndef CAROM_SHIM_H
#define CAROM_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_swx_ctl.h>
#include <rte_swx_pipeline.h>
#include <rte_swx_table_em.h>
#include <rte_thash.h>
#include <rte_version.h>

/*
 * Where the fields of an mbuf are. From 24.03 on some of them are inside anonymous unions, so Rust reads them by offset
 * and takes the structure as opaque.
 */
enum {
	CAROM_MBUF_SIZE = sizeof(struct rte_mbuf),
	CAROM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	CAROM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	CAROM_MBUF_PORT = offsetof(struct rte_mbuf, port),
	CAROM_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	CAROM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	CAROM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	CAROM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	CAROM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

/* Macros with casts in them, which a bindings generator cannot evaluate on every version of clang. */
static const uint64_t CAROM_RSS_IP_TCP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
static const uint32_t CAROM_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint16_t CAROM_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint16_t CAROM_MAX_PORTS = RTE_MAX_ETHPORTS;

/* rte_errno of the calling thread. */
int carom_errno(void);
/* rte_lcore_id() of the calling thread; CAROM_LCORE_ID_ANY when it has none. */
uint32_t carom_lcore_id(void);

/*
 * Sends everything DPDK logs to `write`, one call per message, from whichever thread logs, with its RTE_LOG_ level.
 * Returns 0, or -1 without memory.
 */
int carom_log_to(void (*write)(uint32_t level, const char *text, size_t len));

/* rte_pktmbuf_pool_create() for buffers of `room` bytes, headroom included, which never wastes a page for each. */
struct rte_mempool *carom_mbuf_pool(const char *name, unsigned int count, unsigned int cache, uint16_t room, int socket);
struct rte_mbuf *carom_mbuf_alloc(struct rte_mempool *pool);
int carom_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void carom_mbuf_free(struct rte_mbuf *mbuf);
/* Frees buffers of one segment and one reference each. */
void carom_mbuf_free_bulk(struct rte_mbuf **mbufs, unsigned int count);
/* 0 when the chain became one segment; -1, with nothing changed, when it does not fit its first segment. */
int carom_mbuf_linearize(struct rte_mbuf *mbuf);

/* rte_eth_rx_burst() and rte_eth_tx_burst(), with the callbacks that captures install. */
uint16_t carom_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t carom_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* The link of a port; a structure of plain fields, since rte_eth_link is one of bit fields and, later, a union. */
struct carom_link {
	/* Megabits per second; RTE_ETH_SPEED_NUM_UNKNOWN when not known. */
	uint32_t speed;
	uint8_t up;
	uint8_t full_duplex;
};
int carom_link_get(uint16_t port, struct carom_link *link);

unsigned int carom_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned int count);
unsigned int carom_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned int count);
unsigned int carom_ring_count(const struct rte_ring *ring);

/* Toeplitz hash of `words` 32-bit words in host order; `key` is 4-byte aligned and at least words + 1 words long. */
uint32_t carom_toeplitz(uint32_t *tuple, uint32_t words, const uint8_t *key);

#endif
