
const u32 carom_state_bytes = sizeof(struct state);

/* Takes a burst of at most 32 packets to its end, each with a state of its own. */
void carom_run(const struct environment *e, struct state *states, struct packet *packets, u32 count)
{
	u8 under_way[32];
	for (u32 i = 0; i < count; i++) {
		states[i].at = 0;
		under_way[i] = i;
	}
	while (count) {
		u32 left = 0;
		for (u32 i = 0; i < count; i++) {
			u32 packet = under_way[i];
			under_way[left] = packet;
			left += !step(e, &states[packet], &packets[packet]);
		}
		count = left;
	}
}
