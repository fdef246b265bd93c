
/* Emits a header: together with the one before when it lies behind it. */
ALWAYS void emit(struct state *c, u8 *from, u32 bytes)
{
	if (c->pieces && c->piece[c->pieces - 1].end == from) {
		c->piece[c->pieces - 1].end = from + bytes;
		return;
	}
	c->piece[c->pieces].start = from;
	c->piece[c->pieces].end = from + bytes;
	c->pieces++;
}

/* Headers that do not lie in front of the payload by themselves are put there. */
static __attribute__((noinline)) u8 *gather(struct state *c)
{
	u32 count = c->pieces;
	u8 *at = c->rest;
	if (count && c->piece[count - 1].end == at)
		at = c->piece[--count].start;
	u8 copy[HEADER_BYTES];
	u32 bytes = 0;
	for (u32 i = 0; i < count; i++) {
		u32 more = c->piece[i].end - c->piece[i].start;
		__builtin_memcpy(copy + bytes, c->piece[i].start, more);
		bytes += more;
	}
	__builtin_memcpy(at - bytes, copy, bytes);
	return at - bytes;
}

ALWAYS int leave(struct state *c, struct packet *p, u32 output)
{
	p->output = output;
	if (output == DROP)
		return 1;
	u8 *end = p->start + p->length;
	if (c->pieces == 1 && c->piece[0].end == c->rest)
		p->start = c->piece[0].start;
	else
		p->start = gather(c);
	p->length = end - p->start;
	return 1;
}
