/*
 * Who holds which socket: a walk over the task list and every descriptor table, without /proc.
 *
 * Run on demand by BPF_PROG_TEST_RUN of a raw tracepoint program (Linux 5.10: 1b4d60ec162f "bpf: Enable BPF_PROG_TEST_RUN for
 * raw_tracepoint"), as often as the walk needs: each run takes STEPS steps from the cursor on. Cost: 0.3 µs a descriptor, and nearly
 * nothing for the slots of a table, 64 at least, that hold none.
 *
 * Between two runs tasks exit and tables grow. So each run reads the tables again, and first makes sure that its task is still in the
 * list; when it is not, the walk says so (lost) and Python starts over.
 */

#include "read.h"

/* The verifier follows every step of a run, so few steps load fast (60 ms for 128); a run costs 2 µs of its own. */
#define STEPS 128

/*
 * Where the walk stands. Lives in a map value, not in registers, so that the verifier sees one state a step, not all that could have been.
 * Mapped into Python, which zeroes it to start.
 */
struct cursor {
	u64 task;      /* the task whose descriptors are being read; 0 = start at the caller */
	u64 start;     /* where the round began, and ends */
	u64 pidns;     /* struct pid_namespace of the caller */
	u32 level;     /* its depth */
	u32 pid;       /* of the task, in that namespace; 0 = not visible there */
	u64 array;     /* its fdtable's fd array */
	u32 size;      /* how many slots that has, a multiple of 64 */
	u32 fd;        /* the slot to read next */
	u32 count;     /* owners found by this run */
	u8 done;       /* the round is complete */
	u8 lost;       /* the task left the list between two runs */
	u8 choosy;     /* only sockets whose inode is in wanted; set by Python */
	u8 pad;
	char comm[16];
	u64 open;      /* the fdtable's bits, one for each slot that is taken */
	u64 word;      /* those of the 64 slots that fd is among */
};
BPF_ARRAY(cursors, struct cursor, 1);

struct owner {
	u64 ino;       /* inode of the socket in sockfs */
	u32 pid;       /* in the caller's pid namespace */
	u32 fd;
	char comm[16];
};
/* What one run found: written by walk, read by Python through its mapping before the next run. */
BPF_ARRAY(owners, struct owner, STEPS);

/* Inodes that are asked for. Written by Python before a choosy walk, and emptied after it. */
BPF_HASH(wanted, u64, u8, 4096);

/* The pid of a task as the caller's namespace numbers it; 0 when it cannot be seen from there. */
static __always_inline u32 pid_in(struct cursor *cursor, u64 task)
{
	u64 pid = 0, namespace = 0;
	u32 level = 0, number = 0;

	READ(pid, task, OFF_task_thread_pid);
	READ(level, pid, OFF_pid_level);
	/* Where its level is above ours there is no such element, and what lies there is not our namespace. */
	READ(namespace, pid, OFF_pid_numbers + cursor->level * 16 + 8);
	READ(number, pid, OFF_pid_numbers + cursor->level * 16);
	return level >= cursor->level && namespace == cursor->pidns ? number : 0;
}

static __always_inline void read_word(struct cursor *cursor)
{
	READ(cursor->word, cursor->open, (u64)(cursor->fd / 64) * 8);
}

static __always_inline void read_tables(struct cursor *cursor)
{
	u64 files = 0, table = 0, array = 0;
	u32 size = 0;

	/* A task without files (exiting, or a kernel thread) has a null pointer here: reads from it fail and leave 0. */
	READ(files, cursor->task, OFF_task_files);
	READ(table, files, OFF_files_fdt);
	READ(array, table, OFF_fdt_fd);
	READ(size, table, OFF_fdt_max_fds);
	cursor->array = array;
	cursor->size = cursor->pid ? size : 0;
	cursor->open = 0;
	READ(cursor->open, table, OFF_fdt_open_fds);
	read_word(cursor);
}

static __always_inline void enter(struct cursor *cursor)
{
	cursor->pid = pid_in(cursor, cursor->task);
	cursor->fd = 0;
	bpf_probe_read_kernel(cursor->comm, sizeof(cursor->comm), (void *)(cursor->task + OFF_task_comm));
	read_tables(cursor);
}

RAW_TRACEPOINT_PROBE(walk)
{
	int zero = 0;
	u64 pid = 0, next = 0, previous = 0, file = 0, inode = 0, ino = 0, word = 0;
	u32 index;
	u16 mode = 0;
	struct cursor *cursor = cursors.lookup(&zero);
	struct owner *owner;

	if (!cursor)
		return 0;
	cursor->count = 0;
	if (!cursor->task) {
		READ(cursor->task, bpf_get_current_task(), OFF_task_group_leader);
		cursor->start = cursor->task;
		READ(pid, cursor->task, OFF_task_thread_pid);
		READ(cursor->level, pid, OFF_pid_level);
		READ(cursor->pidns, pid, OFF_pid_numbers + cursor->level * 16 + 8);
		enter(cursor);
	} else {
		READ(previous, cursor->task, OFF_task_tasks + 8);
		READ(next, previous, 0);
		if (next != cursor->task + OFF_task_tasks) {
			cursor->lost = 1;
			return 0;
		}
		read_tables(cursor);
	}
	for (int i = 0; i < STEPS; i++) {
		/*
		 * Nothing may be loaded ahead for the next step: the compiler would put that at the loop's foot, to fall from there into
		 * its head, and the verifiers of Linux 5.10 and 6.1 (check_cfg) take a way back only by a jump.
		 */
		asm volatile("" ::: "memory");
		if (cursor->fd >= cursor->size) {
			READ(next, cursor->task, OFF_task_tasks);
			cursor->task = next - OFF_task_tasks;
			if (cursor->task == cursor->start) {
				cursor->done = 1;
				return 0;
			}
			enter(cursor);
			continue;
		}
		/* A slot is taken before there is a file in it, and until there is none (alloc_fd, file_close_fd_locked; fs/file.c). */
		if (!(cursor->fd % 64))
			read_word(cursor);
		word = cursor->word >> cursor->fd % 64;
		if (!(word & 1)) {
			cursor->fd += !word ? 64 - cursor->fd % 64 : !(word & 0xff) ? 8 : 1;
			continue;
		}
		file = inode = 0;
		mode = 0;
		READ(file, cursor->array, (u64)cursor->fd * 8);
		READ(inode, file, OFF_file_inode);
		READ(mode, inode, OFF_inode_mode);
		if ((mode & 0170000) == 0140000) { /* S_ISSOCK */
			READ(ino, inode, OFF_inode_ino);
			if (cursor->choosy && !wanted.lookup(&ino)) {
				cursor->fd++;
				continue;
			}
			index = cursor->count;
			owner = owners.lookup(&index);
			if (!owner)
				return 0;
			owner->ino = ino;
			owner->pid = cursor->pid;
			owner->fd = cursor->fd;
			__builtin_memcpy(owner->comm, cursor->comm, sizeof(owner->comm));
			cursor->count = index + 1;
		}
		cursor->fd++;
	}
	return 0;
}
