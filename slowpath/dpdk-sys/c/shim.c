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

struct rte_mbuf *carom_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int carom_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
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
