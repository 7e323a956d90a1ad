/* bcc includes this file first and refuses to go on where CONFIG_BPF_SYSCALL is not defined. */
#define CONFIG_BPF_SYSCALL 1
