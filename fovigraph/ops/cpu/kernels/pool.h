// Pooling: x [batch, num_src, channels], out [batch, num_dst, channels].

#pragma once

#include <type_traits>

#include "vectors.h"

namespace {

constexpr int64_t CHANNELS = 64;  // that pooling keeps in registers or the first cache

// The largest of every channel's neighbours and its place among them: the first of equal ones, and
// of those that are not a number. Zero without neighbours.
template <typename T>
void pool_max(const T* x, Index ptr, Index src, T* out, int32_t* winner, int64_t batch,
              int64_t num_src, int64_t num_dst, int64_t channels, int threads) {
    using Place = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
#pragma omp parallel for collapse(2) schedule(dynamic, 16) num_threads(threads)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t node = 0; node < num_dst; node++)
            for (int64_t c = 0; c < channels; c += CHANNELS) {
                const int64_t some = std::min(CHANNELS, channels - c), begin = ptr[node];
                T best[CHANNELS] = {};
                Place place[CHANNELS] = {};
                for (int64_t e = begin; e < ptr[node + 1]; e++) {
                    const T* row = x + (b * num_src + src[e]) * channels + c;
                    const Place here = e - begin;
                    for (int64_t i = 0; i < some; i++) {
                        const bool better = row[i] > best[i] || (row[i] != row[i] && best[i] == best[i]);
                        const bool takes = here == 0 || better;
                        best[i] = takes ? row[i] : best[i];
                        place[i] = takes ? here : place[i];
                    }
                }
                const int64_t at = (b * num_dst + node) * channels + c;
                std::copy_n(best, some, out + at);
                std::copy_n(place, some, winner + at);
            }
}

template <typename T>
void pool_max_gradient(const T* grad, Index ptr, Index src, T* out, const int32_t* winner,
                       int64_t batch, int64_t num_src, int64_t num_dst, int64_t channels,
                       int threads) {
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t c = 0; c < channels; c += CHANNELS) {
            const int64_t some = std::min(CHANNELS, channels - c);
            T* const image = out + b * num_src * channels + c;
            for (int64_t node = 0; node < num_src; node++)
                std::fill_n(image + node * channels, some, T(0));
            for (int64_t node = 0; node < num_dst; node++) {
                if (ptr[node] == ptr[node + 1]) continue;
                const int64_t at = (b * num_dst + node) * channels + c;
                for (int64_t i = 0; i < some; i++)
                    image[src[ptr[node] + winner[at + i]] * channels + i] += grad[at + i];
            }
        }
}

// Sums of neighbours, each times its factor, if there are any; or their mean.
template <typename T>
void pool_sum(const T* x, Index ptr, Index src, T* out, const T* factor, int64_t batch,
              int64_t num_src, int64_t num_dst, int64_t channels, bool mean, int threads) {
#pragma omp parallel for collapse(2) schedule(dynamic, 16) num_threads(threads)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t node = 0; node < num_dst; node++) {
            T* const sum = out + (b * num_dst + node) * channels;
            std::fill_n(sum, channels, T(0));
            for (int64_t e = ptr[node]; e < ptr[node + 1]; e++) {
                const T* row = x + (b * num_src + src[e]) * channels;
                const T share = factor ? factor[e] : T(1);
                for (int64_t c = 0; c < channels; c++) sum[c] += share * row[c];
            }
            const T count = std::max<int64_t>(1, ptr[node + 1] - ptr[node]);
            for (int64_t c = 0; mean && c < channels; c++) sum[c] /= count;
        }
}

template <typename T>
void pool_sum_gradient(const T* grad, Index ptr, Index src, T* out, const T* factor, int64_t batch,
                       int64_t num_src, int64_t num_dst, int64_t channels, bool mean, int threads) {
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t c = 0; c < channels; c += CHANNELS) {
            const int64_t some = std::min(CHANNELS, channels - c);
            T* const image = out + b * num_src * channels + c;
            for (int64_t node = 0; node < num_src; node++)
                std::fill_n(image + node * channels, some, T(0));
            for (int64_t node = 0; node < num_dst; node++) {
                const T* row = grad + (b * num_dst + node) * channels + c;
                const T count = mean ? ptr[node + 1] - ptr[node] : 1;
                for (int64_t e = ptr[node]; e < ptr[node + 1]; e++) {
                    T* const to = image + src[e] * channels;
                    const T share = factor ? factor[e] : T(1);
                    for (int64_t i = 0; i < some; i++) to[i] += share * row[i] / count;
                }
            }
        }
}

}  // namespace
