// What Python calls, for float and double: every call is one parallel region or a few.

#include "gather.h"
#include "norm.h"
#include "pool.h"

// Returns zero, or one if there is not enough memory.
template <typename... Parameters, typename... Arguments>
int call(void (*function)(Parameters...), Arguments... arguments) {
    try {
        function(arguments...);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

#define GATHER(NAME, T)                                                                          \
    extern "C" int NAME##_##T(                                                                   \
        const T* x, const T* weight, int64_t by_cell, int64_t by_row, int64_t by_column,         \
        Index ptr, Index first, Index second, const T* bias, T* out, int64_t batch,              \
        int64_t num_src, int64_t num_dst, int64_t cells, int64_t depth, int64_t columns,         \
        int relu, int threads) {                                                                 \
        return call(NAME<T>, x, Weight<T>{weight, by_cell, by_row, by_column, columns}, ptr,     \
                    first, second, bias, out, batch, num_src, num_dst, cells, depth, relu != 0,  \
                    threads);                                                                    \
    }
#define OUTER(NAME, T)                                                                           \
    extern "C" int NAME##_##T(const T* x, const T* grad, Index ptr, Index first, Index second,   \
                              T* out, int64_t batch, int64_t num_src, int64_t num_dst,           \
                              int64_t cells, int64_t channels, int64_t columns, int threads) {   \
        return call(NAME<T>, x, grad, ptr, first, second, out, batch, num_src, num_dst, cells,   \
                    channels, columns, threads);                                                 \
    }
#define MAXIMUM(NAME, T)                                                                         \
    extern "C" int NAME##_##T(const T* x, Index ptr, Index src, T* out, int32_t* winner,         \
                              int64_t batch, int64_t num_src, int64_t num_dst, int64_t channels, \
                              int threads) {                                                     \
        return call(NAME<T>, x, ptr, src, out, winner, batch, num_src, num_dst, channels,        \
                    threads);                                                                    \
    }
#define SUM(NAME, T)                                                                             \
    extern "C" int NAME##_##T(const T* x, Index ptr, Index src, T* out, const T* factor,         \
                              int64_t batch, int64_t num_src, int64_t num_dst, int64_t channels, \
                              int mean, int threads) {                                           \
        return call(NAME<T>, x, ptr, src, out, factor, batch, num_src, num_dst, channels,        \
                    mean != 0, threads);                                                         \
    }
#define NORMALISE(NAME, T)                                                                       \
    extern "C" int NAME##_##T(const T* x, const T* weight, const T* bias, T* out, double* mean,  \
                              double* variance, int64_t rows, int64_t channels, double eps,      \
                              int threads) {                                                     \
        return call(NAME<T>, x, weight, bias, out, mean, variance, rows, channels, eps,          \
                    threads);                                                                    \
    }
#define NORMALISE_GRADIENT(NAME, T)                                                              \
    extern "C" int NAME##_##T(const T* grad, const T* x, const T* weight, const double* mean,    \
                              const double* variance, T* grad_x, T* grad_weight, T* grad_bias,   \
                              int64_t rows, int64_t channels, double eps, int threads) {         \
        return call(NAME<T>, grad, x, weight, mean, variance, grad_x, grad_weight, grad_bias,    \
                    rows, channels, eps, threads);                                               \
    }
#define BOTH(DEFINE, NAME) DEFINE(NAME, float) DEFINE(NAME, double)

BOTH(GATHER, gather_by_node)
BOTH(GATHER, gather_by_cell)
BOTH(OUTER, outer_by_cell)
BOTH(OUTER, outer_by_node)
BOTH(MAXIMUM, pool_max)
BOTH(MAXIMUM, pool_max_gradient)
BOTH(SUM, pool_sum)
BOTH(SUM, pool_sum_gradient)
BOTH(NORMALISE, normalise)
BOTH(NORMALISE_GRADIENT, normalise_gradient)
