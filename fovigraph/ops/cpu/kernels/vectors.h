// Registers full of numbers, and memory for them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <new>

#include <omp.h>

namespace {

#if defined(__AVX512F__)
constexpr int REGISTER = 64;  // bytes
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

using Index = const int64_t*;

template <typename T>
constexpr int LANES = REGISTER / sizeof(T);

template <typename T>
constexpr int WIDTH = 2 * LANES<T>;

template <typename T>
struct Types {
    typedef T Vector __attribute__((vector_size(REGISTER)));
    typedef T Anywhere __attribute__((vector_size(REGISTER), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Vector = typename Types<T>::Vector;

template <typename T>
Vector<T> load(const T* from) {
    return *reinterpret_cast<const typename Types<T>::Anywhere*>(from);
}

template <typename T>
void store(T* to, Vector<T> value) {
    *reinterpret_cast<typename Types<T>::Anywhere*>(to) = value;
}

// Some columns, the first of a vector pair or both vectors whole; the rest are zeros.
template <typename T>
void load_some(const T* from, int64_t some, Vector<T>& low, Vector<T>& high) {
    T whole[WIDTH<T>] = {};
    if (some < WIDTH<T>) {
        std::copy(from, from + some, whole);
        from = whole;
    }
    low = load(from), high = load(from + LANES<T>);
}

template <typename T>
void store_some(T* to, int64_t some, Vector<T> low, Vector<T> high) {
    T whole[WIDTH<T>];
    T* at = some < WIDTH<T> ? whole : to;
    store(at, low), store(at + LANES<T>, high);
    if (some < WIDTH<T>) std::copy(whole, whole + some, to);
}

template <typename T>
Vector<T> positive(Vector<T> value) {
    const Vector<T> zero = {};
    return value < zero ? zero : value;  // what is not a number stays
}

template <typename T>
class Buffer {  // as many numbers for every thread, at addresses that vectors like
  public:
    explicit Buffer(int64_t count, int threads = 1)
        : each((count + 63) / 64 * 64),
          numbers(static_cast<T*>(::operator new[](sizeof(T) * each * threads, AT))) {}
    ~Buffer() { ::operator delete[](numbers, AT); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    T* mine() const { return numbers + each * omp_get_thread_num(); }

  private:
    static constexpr std::align_val_t AT{64};
    const int64_t each;

  public:
    T* const numbers;
};

}  // namespace
