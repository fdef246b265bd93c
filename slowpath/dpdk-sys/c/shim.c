#define _GNU_SOURCE /* fopencookie */

#include "shim.h"

#include <stdio.h>

int carom_errno(void)
{
	return rte_errno;
}

uint32_t carom_lcore_id(void)
{
	return rte_lcore_id();
}

static void (*log_write)(uint32_t level, const char *text, size_t len);

static ssize_t write_cookie(void *cookie, const char *text, size_t len)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_write(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, len);
	return (ssize_t)len;
}

int carom_log_to(void (*write)(uint32_t level, const char *text, size_t len))
{
	cookie_io_functions_t functions = { .write = write_cookie };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -1;
	log_write = write;
	/* DPDK flushes after each message; a line buffer keeps what a message prints together. */
	setvbuf(stream, NULL, _IOFBF, 8192);
	return rte_openlog_stream(stream);
}

/*
 * As rte_pktmbuf_pool_create(), with the buffers one behind the other in one piece of memory. That puts no buffer on a
 * page of its own where pages are small, as it does: 4 KiB apart, all of them would use the same few sets of a cache.
 */
static struct rte_mempool *packed_pool(const char *name, unsigned int count, unsigned int cache, uint16_t room, int socket)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = room };
	unsigned int element = sizeof(struct rte_mbuf) + room;
	const struct rte_memzone *memory = NULL;
	struct rte_mempool *pool;
	size_t size;
	int ret;

	/* The flag says that a buffer may cross pages, not that it has no address for devices. */
	pool = rte_mempool_create_empty(name, count, element, cache, sizeof(private), socket, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	ret = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (ret == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		size = (size_t)count * rte_mempool_calc_obj_size(element, 0, NULL);
		memory = rte_memzone_reserve_aligned(name, size, socket, 0, RTE_CACHE_LINE_SIZE);
		ret = memory == NULL ? -rte_errno :
			rte_mempool_populate_iova(pool, memory->addr, memory->iova, size, NULL, NULL);
	}
	if (ret < (int)count) {
		rte_mempool_free(pool);
		rte_memzone_free(memory);
		rte_errno = ret < 0 ? -ret : ENOMEM;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

struct rte_mempool *carom_mbuf_pool(const char *name, unsigned int count, unsigned int cache, uint16_t room, int socket)
{
	/* Without hugepages there is one kind of address, so that what is one piece for the program is one for devices. */
	if (!rte_eal_has_hugepages() && rte_eal_iova_mode() == RTE_IOVA_VA)
		return packed_pool(name, count, cache, room, socket);
	return rte_pktmbuf_pool_create(name, count, cache, 0, room, socket);
}

struct rte_mbuf *carom_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int carom_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	unsigned int i;

	if (rte_mempool_get_bulk(pool, (void **)mbufs, count) != 0)
		return -1;
	/*
	 * What rte_pktmbuf_alloc_bulk() does, as far as it is in the first cache line. In the second one is what no flag
	 * asks to look at, and the next segment, which a buffer in the pool has none of.
	 */
	for (i = 0; i < count; i++) {
		mbufs[i]->data_off = RTE_PKTMBUF_HEADROOM;
		mbufs[i]->port = RTE_MBUF_PORT_INVALID;
		mbufs[i]->ol_flags = 0;
		mbufs[i]->packet_type = 0;
		mbufs[i]->pkt_len = 0;
		mbufs[i]->data_len = 0;
	}
	return 0;
}

void carom_mbuf_free_bulk(struct rte_mbuf **mbufs, unsigned int count)
{
	struct rte_mempool *pool;
	unsigned int i;

	if (count == 0)
		return;
	pool = mbufs[0]->pool;
	for (i = 0; i < count; i++) {
		if (mbufs[i]->pool != pool || !RTE_MBUF_DIRECT(mbufs[i])) {
			rte_pktmbuf_free_bulk(mbufs, count);
			return;
		}
	}
	rte_mempool_put_bulk(pool, (void **)mbufs, count);
}

void carom_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int carom_mbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

uint16_t carom_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t carom_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int carom_link_get(uint16_t port, struct carom_link *link)
{
	struct rte_eth_link now;
	int ret = rte_eth_link_get_nowait(port, &now);

	if (ret == 0) {
		link->speed = now.link_speed;
		link->up = now.link_status == RTE_ETH_LINK_UP;
		link->full_duplex = now.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	}
	return ret;
}

unsigned int carom_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned int count)
{
	return rte_ring_enqueue_burst(ring, objects, count, NULL);
}

unsigned int carom_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned int count)
{
	return rte_ring_dequeue_burst(ring, objects, count, NULL);
}

unsigned int carom_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

uint32_t carom_toeplitz(uint32_t *tuple, uint32_t words, const uint8_t *key)
{
	return rte_softrss(tuple, words, key);
}
