// How an op starts its kernels: the host's half of a .cu file.
#pragma once
#include <string>
#include <type_traits>

#include "../ops.h"

namespace tstrain::cuda {

// The blocks of a launch, the threads of each, and the bytes of dynamic shared memory that each gets.
struct Grid {
  i64 x, y = 1, z = 1;
  int threads = 256;
  i64 shared = 0;

  explicit Grid(i64 blocks) : x(blocks) {}
  Grid(i64 x, i64 y, i64 z = 1) : x(x), y(y), z(z) {}
  Grid with_threads(int count) const {
    Grid grid = *this;
    grid.threads = count;
    return grid;
  }
  Grid with_shared(i64 bytes) const {
    Grid grid = *this;
    grid.shared = bytes;
    return grid;
  }
};

// As many blocks as n elements take at `per_block` each. A kernel walks its grid in strides where these would be more
// than `most`.
inline Grid blocks_for(i64 n, i64 per_block = 256, i64 most = 65535) {
  i64 blocks = (n + per_block - 1) / per_block;
  return Grid(blocks < most ? blocks : most);
}

// The kernel `name<types>` of the .cu files, as their KERNELS lists have it: kernel("cast", {y.dtype, x.dtype}).
// Throws OpError when it cannot be compiled or loaded.
struct Kernel;
const Kernel& kernel(const char* name, std::initializer_list<DType> types = {});

void launch_raw(const Context& context, const Kernel& kernel, const Grid& grid, void** arguments);

// Queues a kernel on the context's stream. The arguments go to the kernel's parameters as they are, so they have the very
// types those have: pointers, i64, float, double, bool or Four. Nothing happens when the grid is empty.
template <class... A>
void launch(const Context& context, const Kernel& kernel, const Grid& grid, A... arguments) {
  static_assert((... && (std::is_pointer_v<A> || std::is_same_v<A, i64> || std::is_same_v<A, float> ||
                         std::is_same_v<A, double> || std::is_same_v<A, bool> || std::is_same_v<A, Four>)),
                "a kernel's parameters are pointers, i64, float, double, bool and Four");
  void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
  launch_raw(context, kernel, grid, pointers);
}

// The ops of the table, as cuda/*.cu implement them.
#define TSTRAIN_DECLARE(name, parameters, ...) WithContext<void parameters>::type name;
TSTRAIN_OPS(TSTRAIN_DECLARE)
#undef TSTRAIN_DECLARE

}  // namespace tstrain::cuda
