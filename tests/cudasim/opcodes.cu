// Kernels of single PTX instructions, and of what NVRTC makes of C++, for opcodes.cpp to compare with plain computation.
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using i32 = int;
using u64 = unsigned long long;
using i64 = long long;

#define KERNEL extern "C" __global__ void
__device__ inline int index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// --- floats; each thread its x, y, z

#define FLOATS(name, instruction)                                                          \
  KERNEL name(float* d, const float* x, const float* y, const float* z, int n) {           \
    int i = index();                                                                       \
    if (i >= n) return;                                                                    \
    float r;                                                                               \
    asm(instruction : "=f"(r) : "f"(x[i]), "f"(y[i]), "f"(z[i]));                          \
    d[i] = r;                                                                              \
  }
FLOATS(fma_rn, "fma.rn.f32 %0, %1, %2, %3;")
FLOATS(fma_rz, "fma.rz.f32 %0, %1, %2, %3;")
FLOATS(fma_rm, "fma.rm.f32 %0, %1, %2, %3;")
FLOATS(fma_rp, "fma.rp.f32 %0, %1, %2, %3;")
FLOATS(mul_then_add, "{ .reg .f32 t; mul.rn.f32 t, %1, %2; add.rn.f32 %0, t, %3; }")
FLOATS(add_rz, "add.rz.f32 %0, %1, %2;")
FLOATS(sub_rm, "sub.rm.f32 %0, %1, %2;")
FLOATS(mul_rp, "mul.rp.f32 %0, %1, %2;")
FLOATS(div_rn, "div.rn.f32 %0, %1, %2;")
FLOATS(div_rz, "div.rz.f32 %0, %1, %2;")
FLOATS(sqrt_rm, "{ .reg .f32 t; abs.f32 t, %1; sqrt.rm.f32 %0, t; }")
FLOATS(min_f, "min.f32 %0, %1, %2;")
FLOATS(max_f, "max.f32 %0, %1, %2;")
FLOATS(max_nan, "max.NaN.f32 %0, %1, %2;")
FLOATS(add_ftz, "add.ftz.f32 %0, %1, %2;")
FLOATS(add_sat, "add.sat.f32 %0, %1, %2;")
FLOATS(select_ltu, "{ .reg .pred p; setp.ltu.f32 p, %1, %2; selp.f32 %0, 0f3F800000, 0f00000000, p; }")
FLOATS(select_ne, "{ .reg .pred p; setp.ne.f32 p, %1, %2; selp.f32 %0, 0f3F800000, 0f00000000, p; }")
FLOATS(rint_f, "cvt.rni.f32.f32 %0, %1;")

// --- conversions

KERNEL convert(u16* to_bf16, u32* to_bf16x2, float* from_bf16, u16* to_f16, float* from_f16, int* rni, int* rzi, u32* rmi_u,
               i64* rpi_64, signed char* saturated, const float* x, const double* wide, float* narrow_rn, float* narrow_rz,
               int n) {
  int i = index();
  if (i >= n) return;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to_bf16[i]) : "f"(x[i]));
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(to_bf16x2[i]) : "f"(x[i]), "f"(-x[i]));
  from_bf16[i] = __uint_as_float(u32(to_bf16[i]) << 16);
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to_f16[i]) : "f"(x[i]));
  asm("cvt.f32.f16 %0, %1;" : "=f"(from_f16[i]) : "h"(to_f16[i]));
  rni[i] = __float2int_rn(x[i]);
  rzi[i] = int(x[i]);
  rmi_u[i] = __float2uint_rd(x[i]);
  rpi_64[i] = __float2ll_ru(x[i]);
  int s;
  asm("{ .reg .s32 t; cvt.rzi.s32.f32 t, %1; cvt.sat.s8.s32 %0, t; }" : "=r"(s) : "f"(x[i]));
  saturated[i] = s;
  narrow_rn[i] = float(wide[i]);
  narrow_rz[i] = __double2float_rz(wide[i]);
}

KERNEL from_integers(float* rn, float* rz, double* wide, const i64* x, int n) {
  int i = index();
  if (i >= n) return;
  rn[i] = __ll2float_rn(x[i]);
  rz[i] = __ll2float_rz(x[i]);
  wide[i] = double(int(x[i]));
}

// --- integers: one row of results a thread

constexpr int kInteger = 28;
KERNEL integers(u64* d, const u64* x, const u64* y, int n) {
  int i = index();
  if (i >= n) return;
  u64 a = x[i], b = y[i];
  u32 p = u32(a), q = u32(b), r;
  u64* to = d + i * kInteger;
  *to++ = __umulhi(p, q);
  *to++ = u64(i64(__mulhi(int(p), int(q))));
  *to++ = __umul64hi(a, b);
  *to++ = u64(__mul64hi(i64(a), i64(b)));
  *to++ = u64(i64(int(p)) * int(q));
  *to++ = b ? a / b : 0;
  *to++ = b ? u64(i64(a) % i64(b)) : 0;
  *to++ = q ? p % q : 0;
  asm("shl.b32 %0, %1, %2;" : "=r"(r) : "r"(p), "r"(q & 63));
  *to++ = r;
  asm("shr.s32 %0, %1, %2;" : "=r"(r) : "r"(p), "r"(q & 63));
  *to++ = r;
  asm("bfe.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(p), "r"(q & 31), "r"(q >> 8 & 31));
  *to++ = r;
  asm("bfe.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(p), "r"(q & 31), "r"(q >> 8 & 31));
  *to++ = r;
  asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(p), "r"(~p * 77), "r"(q & 31), "r"(q >> 8 & 31));
  *to++ = r;
  *to++ = __funnelshift_l(p, q, u32(b >> 40));
  *to++ = __funnelshift_rc(p, q, u32(b >> 40) & 63);
  *to++ = __byte_perm(p, q, u32(a >> 32) & 0x7777);
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(p), "r"(q), "r"(0xba98));
  *to++ = r;
  asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(r) : "r"(p), "r"(q), "r"(u32(a >> 32)));
  *to++ = r;
  *to++ = __popcll(a);
  *to++ = __clz(int(p >> (q & 31)));
  *to++ = __brevll(a);
  *to++ = __ffs(int(p << (q & 31)));
  *to++ = u64(i64(min(int(p), int(q))));
  *to++ = max(a, b);
  u32 low, high;
  asm("{ .reg .u32 t; add.cc.u32 t, %2, %4; addc.u32 %1, %3, %5; mov.u32 %0, t; }"
      : "=r"(low), "=r"(high)
      : "r"(p), "r"(u32(a >> 32)), "r"(q), "r"(u32(b >> 32)));
  *to++ = u64(high) << 32 | low;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(*to) : "r"(p), "r"(q), "l"(a));
  to++;
  *to++ = u64(i64(abs(int(p))));
  asm("add.sat.s32 %0, %1, %2;" : "=r"(r) : "r"(p), "r"(q));
  *to++ = r;
}

// --- what a warp does together

KERNEL warps(u32* d, const u32* x) {
  u32 lane = threadIdx.x % 32, v = x[threadIdx.x], all = 0xffffffffu;
  u32* to = d + 10 * threadIdx.x;
  to[0] = __shfl_sync(all, v, int(v % 40));
  to[1] = __shfl_up_sync(all, v, 3);
  to[2] = __shfl_down_sync(all, v, 5, 8);
  to[3] = __shfl_xor_sync(all, v, 9);
  to[4] = __ballot_sync(all, v % 3 == 0);
  to[5] = __any_sync(all, v == 7);
  to[6] = __all_sync(all, v < 1000);
  to[7] = __reduce_add_sync(all, v);
  to[8] = lane < 12 ? __shfl_sync(0x00000fffu, v, 11 - int(lane)) : __shfl_sync(0xfffff000u, v, 12);
  to[9] = u32(__syncthreads_count(v % 2 == 0));
}

// --- mma and ldmatrix: d = a·b + c of 16×k, k×8 and 16×8, row by row

__device__ inline u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

KERNEL mma_from_ldmatrix(float* d, const u16* a, const u16* b, const float* c) {
  __shared__ alignas(16) u16 sa[16 * 16], sb[16 * 8];
  int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) sa[i] = a[i];
  for (int i = lane; i < 128; i += 32) sb[i] = b[i];
  __syncwarp();
  u32 fa[4], fb[2];
  // Matrices of 8×8: rows 0 and 8 of the left half, then of the right.
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
               : "r"(shared_address(sa + lane % 16 * 16 + lane / 16 * 8)));
  // b lies row by row, so its columns come by .trans.
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(fb[0]), "=r"(fb[1])
               : "r"(shared_address(sb + lane % 16 * 8)));
  float f[4];
  for (int i = 0; i < 4; i++) f[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
      : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = f[i];
}

KERNEL mma_k8(float* d, const u16* a, const u16* b, const float* c) {
  int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  u32 fa[2], fb;
  for (int i = 0; i < 2; i++) fa[i] = *reinterpret_cast<const u32*>(a + (g + 8 * i) * 8 + 2 * t);
  fb = u32(b[2 * t * 8 + g]) | u32(b[(2 * t + 1) * 8 + g]) << 16;
  float f[4];
  for (int i = 0; i < 4; i++) f[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
               : "r"(fa[0]), "r"(fa[1]), "r"(fb));
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = f[i];
}

// --- cp.async: two buffers, the next of which comes while the last is read; beyond n zeros

KERNEL pipeline(float* d, const float* x, int n, int steps) {
  __shared__ alignas(16) float s[2][128];
  int i = threadIdx.x;
  auto fetch = [&](int k) {
    int at = 128 * k + 4 * i, left = n - at, bytes = left <= 0 ? 0 : left >= 4 ? 16 : 4 * left;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(&s[k % 2][4 * i])),
                 "l"(x + (bytes ? at : 0)), "r"(bytes)
                 : "memory");
  };
  fetch(0);
  asm volatile("cp.async.commit_group;");
  float sum = 0;
  for (int k = 0; k < steps; k++) {
    if (k + 1 < steps) fetch(k + 1);
    asm volatile("cp.async.commit_group;");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    for (int j = 0; j < 4; j++) sum += s[k % 2][127 - 4 * i - j] * float(k + 1);
    __syncthreads();
  }
  d[i] = sum;
}

// --- what C++ becomes: calls, local memory, tables, switches, generic addresses, atomics, vectors

__constant__ int table[8] = {3, 1, 4, 1, 5, -9, 2, 6};
__device__ float pi = 3.25f;
__device__ float* where_pi_is = &pi;

__device__ __noinline__ int collatz(int x, int* steps) {
  while (x != 1) {
    x = x % 2 ? 3 * x + 1 : x / 2;
    ++*steps;
  }
  return *steps;
}
struct Pair {
  double a;
  int b;
};
__device__ __noinline__ Pair pair_of(Pair p, float scale) { return {p.a * scale, p.b + 1}; }

KERNEL language(int* d, double* e, int* counters, const int* x, int n) {
  __shared__ int s[64];
  __shared__ int total;
  int i = threadIdx.x;
  if (i == 0) total = 0;
  s[i] = x[i];
  __syncthreads();
  int a[16];
  for (int k = 0; k < 16; k++) a[k] = x[(i + k) % n] * k;
  int steps = 0, v = collatz(x[i] + 1, &steps);
  switch (x[i] % 9) {
    case 0: v += 10; break;
    case 1: v *= 3; break;
    case 2: v -= 7; break;
    case 3: v ^= 0x55; break;
    case 4: v = v * v; break;
    case 5: v = ~v; break;
    case 6: v |= 64; break;
    case 7: v = v % 5; break;
    default: v = -v;
  }
  v += a[x[i] % 16] + table[x[i] % 8];
  // Which memory it is cannot be known before it runs.
  int* p = x[i] % 2 ? &s[i] : &a[3];
  *p += 100;
  v += *p;
  atomicAdd(&total, x[i]);
  atomicMax(counters, x[i]);
  atomicAdd(counters + 1, 1);
  atomicCAS(counters + 2, 0, 17);
  __syncthreads();
  d[i] = v + total;
  Pair r = pair_of({double(x[i]), i}, *where_pi_is);
  e[i] = r.a + r.b;
}

KERNEL vectors(float4* d, const float4* x, const uchar4* y, const double2* z, int n) {
  int i = index();
  if (i >= n) return;
  float4 v = x[i];
  uchar4 w = y[i];
  double2 u = z[i];
  d[i] = {v.x + w.x, v.y + w.y, v.z - float(u.x), v.w * float(u.y) + w.z + w.w};
}

KERNEL dims(int* d) {
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  d[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

KERNEL mathematics(float* d, const float* x, int n) {
  int i = index();
  if (i >= n) return;
  float* to = d + 10 * i;
  to[0] = expf(x[i]);
  to[1] = logf(fabsf(x[i]));
  to[2] = sinf(x[i]);
  to[3] = cosf(x[i] * 1000.f);
  to[4] = rsqrtf(fabsf(x[i]));
  to[5] = tanhf(x[i]);
  to[6] = powf(fabsf(x[i]), 1.7f);
  to[7] = erff(x[i]);
  to[8] = log1pf(fabsf(x[i]));
  to[9] = float(exp(double(x[i])) / sqrt(double(fabsf(x[i]) + 1.f)));
}
