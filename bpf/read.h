/*
 * Reads of kernel memory, for programs of every sort. OFF_… macros are byte offsets in the running kernel's structs, from BTF
 * (sstrace/sources/btf.py).
 */
#pragma once

#define READ(dst, base, offset) bpf_probe_read_kernel(&(dst), sizeof(dst), (void *)((base) + (offset)))
#define AT(type, block, offset) (*(type *)((u8 *)(block) + (offset)))

/* How far the addresses, ports, cookie and net pointer reach into struct sock_common: one read fetches them all. */
#define COMMON_BYTES ((COMMON_END + 7) / 8 * 8)
