// Scratch memory of CPU kernels.
#pragma once
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace irstd {

// Every part of it from a cache line on; freed with the object.
template <class A> class Scratch {
  struct Free { void operator()(A* p) const { ::operator delete(p, std::align_val_t(64)); } };
  std::vector<std::unique_ptr<A, Free>> parts;

 public:
  A* take(int64_t n) {
    parts.emplace_back(static_cast<A*>(::operator new(sizeof(A) * n, std::align_val_t(64))));
    return parts.back().get();
  }
};

}  // namespace irstd
