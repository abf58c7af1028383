// A program, or an init, whose first instruction is the one that count-instructions.c looks for. Then it resets the
// machine where it may, and ends. No libc, so that nothing comes before.
#ifndef __x86_64__
#error "only for x86_64"
#endif

static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

void _start(void) {
  __asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 0x78, 0x56, 0x34, 0x12");  // nopl 0x12345678(%rax,%rax,1)
  call(169, 0xfee1dead, 672274793, 0x01234567);                             // reboot: RB_AUTOBOOT
  for (;;) call(60, 0, 0, 0);                                               // exit
}
