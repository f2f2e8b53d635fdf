// An instruction that the simulator does not know: opcodes.test.ts.
extern "C" __global__ void unknown(unsigned short* y) {
  asm("tanh.approx.bf16 %0, %1;" : "=h"(y[0]) : "h"(y[1]));
}
