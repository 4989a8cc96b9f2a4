/* Loaded before a program (LD_PRELOAD): its CPUID instructions fault, and are answered without what multiplies
 * bytes at once: AVX512-VNNI, AVX-VNNI, AVX-VNNI-INT8, AVX10 and AMX. Everything else is as the processor says it.
 *
 * Intel SDM, CPUID, leaf 7; arch_prctl(2), ARCH_SET_CPUID. A thread inherits it; a new program starts without, and
 * loads this again. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static void answer(int number, siginfo_t *info, void *context) {
  (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *code = (const unsigned char *)registers[REG_RIP];
  if (code[0] != 0x0f || code[1] != 0xa2) { /* no CPUID: a fault as any other */
    signal(number, SIG_DFL);
    return;
  }
  unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __cpuid_count(leaf, part, a, b, c, d);
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && part == 0) {
    c &= ~BIT(11);                          /* AVX512-VNNI */
    d &= ~(BIT(22) | BIT(24) | BIT(25));    /* AMX */
  }
  if (leaf == 7 && part == 1) {
    a &= ~(BIT(4) | BIT(21));               /* AVX-VNNI, AMX-FP16 */
    d &= ~(BIT(4) | BIT(10) | BIT(19));     /* AVX-VNNI-INT8, AVX-VNNI-INT16, AVX10 */
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
    perror("without_vnni: CPUID cannot be made to fault");
    _exit(2);
  }
}
