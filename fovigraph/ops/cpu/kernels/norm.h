// Batch normalisation of rows [rows, channels].

#pragma once

#include <cmath>

#include "vectors.h"

namespace {

constexpr int64_t LINES = 512;  // rows whose sums are made together, whatever the threads

// Sums over rows of two terms for every channel, in double: add(row, sums, more) adds a row's.
template <typename Add>
void sum_rows(int64_t rows, int64_t channels, double* sums, int threads, Add add) {
    const int64_t parts = (rows + LINES - 1) / LINES;
    const Buffer<double> partial(parts * 2 * channels);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t part = 0; part < parts; part++) {
        double* const own = partial.numbers + part * 2 * channels;
        std::fill_n(own, 2 * channels, 0.0);
        for (int64_t r = part * LINES; r < std::min(rows, (part + 1) * LINES); r++)
            add(r, own, own + channels);
    }
    std::fill_n(sums, 2 * channels, 0.0);
    for (int64_t part = 0; part < parts; part++)
        for (int64_t i = 0; i < 2 * channels; i++) sums[i] += partial.numbers[part * 2 * channels + i];
}

// out = (x - mean) / sqrt(variance + eps) * weight + bias, of rows [rows, channels]. The variance
// is that of the differences from the mean.
template <typename T>
void normalise(const T* x, const T* weight, const T* bias, T* out, double* mean, double* variance,
               int64_t rows, int64_t channels, double eps, int threads) {
    const Buffer<double> sums(2 * channels), scales(channels);
    sum_rows(rows, channels, sums.numbers, threads, [=](int64_t r, double* sum, double*) {
        for (int64_t c = 0; c < channels; c++) sum[c] += x[r * channels + c];
    });
    for (int64_t c = 0; c < channels; c++) mean[c] = sums.numbers[c] / rows;
    sum_rows(rows, channels, sums.numbers, threads, [=](int64_t r, double* sum, double*) {
        for (int64_t c = 0; c < channels; c++) {
            const double off = x[r * channels + c] - mean[c];
            sum[c] += off * off;
        }
    });
    double* const scale = scales.numbers;
    for (int64_t c = 0; c < channels; c++) {
        variance[c] = sums.numbers[c] / rows;
        scale[c] = (weight ? weight[c] : 1) / std::sqrt(variance[c] + eps);
    }
#pragma omp parallel for schedule(dynamic, LINES) num_threads(threads)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t at = r * channels + c;
            out[at] = (x[at] - mean[c]) * scale[c] + (bias ? bias[c] : 0);
        }
}

template <typename T>
void normalise_gradient(const T* grad, const T* x, const T* weight, const double* mean,
                        const double* variance, T* grad_x, T* grad_weight, T* grad_bias,
                        int64_t rows, int64_t channels, double eps, int threads) {
    const Buffer<double> sums(2 * channels), scales(3 * channels);
    sum_rows(rows, channels, sums.numbers, threads, [=](int64_t r, double* sum, double* along) {
        for (int64_t c = 0; c < channels; c++) {
            const double g = grad[r * channels + c];
            sum[c] += g;
            along[c] += g * (x[r * channels + c] - mean[c]);
        }
    });
    double *const scale = scales.numbers, *const even = scale + channels, *const slope = even + channels;
    for (int64_t c = 0; c < channels; c++) {
        const double total = sums.numbers[c], along = sums.numbers[channels + c];
        const double inverse = 1 / std::sqrt(variance[c] + eps);
        grad_weight[c] = along * inverse, grad_bias[c] = total;
        scale[c] = (weight ? weight[c] : 1) * inverse;
        even[c] = total / rows, slope[c] = along / rows * inverse * inverse;
    }
#pragma omp parallel for schedule(dynamic, LINES) num_threads(threads)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t at = r * channels + c;
            grad_x[at] = scale[c] * (grad[at] - even[c] - (x[at] - mean[c]) * slope[c]);
        }
}

}  // namespace
