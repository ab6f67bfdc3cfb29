// The gather-GEMM of fovigraph/ops/knn_conv.py, without storing what it gathers.
//
// All of it is the product of a few rows with a panel of weights, a panel being as wide as two
// vector registers: six rows and two vectors fill the registers of most processors. Rows are read
// where they lie. Every output is summed by one thread in one order, so results do not depend on the
// number of threads.
//
// x [batch, num_src, depth], weight [cells, depth, columns], out [batch, num_dst, columns], all
// contiguous but the weight, whose strides are given: the input gradient has it transposed.

#pragma once

#include "vectors.h"

namespace {

constexpr int ROWS = 6;           // of a tile
constexpr int64_t DEPTH = 512;    // rows of a panel, at most: it then stays in the first cache
constexpr int64_t GATHERED = 64;  // edges, each of one image, that a weight gradient gathers at once
constexpr int64_t PART = 128;     // columns of a weight gradient that one thread computes

template <typename T>
struct Weight {
    const T* numbers;
    int64_t by_cell, by_row, by_column, columns;

    // Rows of one cell as a panel [rows, WIDTH], filled up with zeros.
    void panel(int64_t cell, int64_t row, int64_t rows, int64_t column, T* to) const {
        const int64_t some = std::min<int64_t>(WIDTH<T>, columns - column);
        const T* from = numbers + cell * by_cell + row * by_row + column * by_column;
        for (int64_t r = 0; r < rows; r++, from += by_row, to += WIDTH<T>)
            for (int64_t i = 0; i < WIDTH<T>; i++) to[i] = i < some ? from[i * by_column] : T(0);
    }
};

// to[r][i] += sum over k of from[r][k * step] * panel[k * next + i], for R rows.
template <typename T, int R>
void multiply(const T* const* from, int64_t step, const T* panel, int64_t next, int64_t depth,
              T* const* to, int64_t some) {
    Vector<T> low[R] = {}, high[R] = {};
    for (int64_t k = 0; k < depth; k++, panel += next) {
        const Vector<T> left = load(panel), right = load(panel + LANES<T>);
        for (int r = 0; r < R; r++) {
            const T value = from[r][k * step];
            low[r] += value * left;
            high[r] += value * right;
        }
    }
    for (int r = 0; r < R; r++) {  // one after the other: two may go to the same place
        Vector<T> before_low, before_high;
        load_some(to[r], some, before_low, before_high);
        store_some(to[r], some, before_low + low[r], before_high + high[r]);
    }
}

template <typename T, int R = ROWS>
void multiply_rows(int64_t rows, const T* const* from, int64_t step, const T* panel, int64_t next,
                   int64_t depth, T* const* to, int64_t some) {
    if constexpr (R > 0) {
        if (rows == R) return multiply<T, R>(from, step, panel, next, depth, to, some);
        multiply_rows<T, R - 1>(rows, from, step, panel, next, depth, to, some);
    }
}

// Collects rows that are multiplied with the same panel, until there are enough.
template <typename T>
class Rows {
  public:
    Rows(const T* panel, int64_t next, int64_t depth, int64_t some, int64_t step = 1)
        : panel(panel), next(next), depth(depth), some(some), step(step) {}
    void add(const T* row, T* sum) {
        from[count] = row, to[count] = sum;
        if (++count == ROWS) finish();
    }
    void finish() {
        multiply_rows<T>(count, from, step, panel, next, depth, to, some);
        count = 0;
    }

  private:
    const T* panel;
    const int64_t next, depth, some, step;
    const T* from[ROWS];
    T* to[ROWS];
    int64_t count = 0;
};

// out[r] (+)= sum over edges of x[r, src] @ panel[cell], for R images of one destination.
template <typename T, int R>
void neighbourhood(const T* x, int64_t next_x, Index src, Index cell, int64_t edges, int64_t depth,
                   const T* panels, const T* start, int64_t next_start, T* out, int64_t next_out,
                   int64_t some, bool relu) {
    Vector<T> low[R] = {}, high[R] = {};
    if (start)
        for (int r = 0; r < R; r++) load_some(start + r * next_start, some, low[r], high[r]);
    for (int64_t e = 0; e < edges; e++) {
        const T* row = x + src[e] * depth;
        const T* panel = panels + cell[e] * depth * WIDTH<T>;
        for (int64_t c = 0; c < depth; c++, panel += WIDTH<T>) {
            const Vector<T> left = load(panel), right = load(panel + LANES<T>);
            for (int r = 0; r < R; r++) {
                const T value = row[r * next_x + c];
                low[r] += value * left;
                high[r] += value * right;
            }
        }
    }
    for (int r = 0; r < R; r++) {
        if (relu) low[r] = positive<T>(low[r]), high[r] = positive<T>(high[r]);
        store_some(out + r * next_out, some, low[r], high[r]);
    }
}

template <typename T, int R = ROWS, typename... Arguments>
void neighbourhood_of(int64_t rows, Arguments... arguments) {
    if constexpr (R > 0) {
        if (rows == R) return neighbourhood<T, R>(arguments...);
        neighbourhood_of<T, R - 1>(rows, arguments...);
    }
}

// Destination by destination: the images of one share its edges, and so their weights.
template <typename T>
void gather_by_node(const T* x, const Weight<T>& weight, Index ptr, Index src, Index cell,
                    const T* bias, T* out, int64_t batch, int64_t num_src, int64_t num_dst,
                    int64_t cells, int64_t depth, bool relu, int threads) {
    const int64_t columns = weight.columns, blocks = (columns + WIDTH<T> - 1) / WIDTH<T>;
    const int64_t step = std::max<int64_t>(1, DEPTH / depth);  // edges at a time
    const Buffer<T> panels(blocks * cells * depth * WIDTH<T>);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t of = 0; of < cells; of++)
                weight.panel(of, 0, depth, block * WIDTH<T>,
                             panels.numbers + (block * cells + of) * depth * WIDTH<T>);
#pragma omp for schedule(dynamic)
        for (int64_t node = 0; node < num_dst; node++) {
            int64_t edge = ptr[node];
            do {
                const int64_t edges = std::min(step, ptr[node + 1] - edge);
                const bool first = edge == ptr[node], last = edge + edges == ptr[node + 1];
                for (int64_t block = 0; block < blocks; block++) {
                    const int64_t column = block * WIDTH<T>;
                    for (int64_t b = 0; b < batch; b += ROWS) {
                        T* const to = out + (b * num_dst + node) * columns + column;
                        const T* const start = !first ? to : bias ? bias + column : nullptr;
                        neighbourhood_of<T>(
                            std::min<int64_t>(ROWS, batch - b), x + b * num_src * depth,
                            num_src * depth, src + edge, cell + edge, edges, depth,
                            panels.numbers + block * cells * depth * WIDTH<T>, start,
                            first ? int64_t(0) : num_dst * columns, to, num_dst * columns,
                            std::min<int64_t>(WIDTH<T>, columns - column), relu && last);
                    }
                }
                edge += edges;
            } while (edge < ptr[node + 1]);
        }
    }
}

// Cell by cell, for few images: all edges of a cell share its weights, which are read once.
template <typename T>
void gather_by_cell(const T* x, const Weight<T>& weight, Index ptr, Index dst, Index src,
                    const T* bias, T* out, int64_t batch, int64_t num_src, int64_t num_dst,
                    int64_t cells, int64_t depth, bool relu, int threads) {
    const int64_t columns = weight.columns;
    const Buffer<T> panels(std::min(depth, DEPTH) * WIDTH<T>, threads);
#pragma omp parallel num_threads(threads)
    {
        T* const panel = panels.mine();
#pragma omp for schedule(dynamic)
        for (int64_t column = 0; column < columns; column += WIDTH<T>) {
            const int64_t some = std::min<int64_t>(WIDTH<T>, columns - column);
            T* const first = out + column;
            for (int64_t row = 0; row < batch * num_dst; row++)
                for (int64_t i = 0; i < some; i++)
                    first[row * columns + i] = bias ? bias[column + i] : T(0);
            for (int64_t c = 0; c < depth; c += DEPTH)
                for (int64_t of = 0; of < cells; of++) {
                    if (ptr[of] == ptr[of + 1]) continue;
                    const int64_t part = std::min(DEPTH, depth - c);
                    weight.panel(of, c, part, column, panel);
                    Rows<T> rows(panel, WIDTH<T>, part, some);
                    for (int64_t e = ptr[of]; e < ptr[of + 1]; e++)
                        for (int64_t b = 0; b < batch; b++)
                            rows.add(x + (b * num_src + src[e]) * depth + c,
                                     first + (b * num_dst + dst[e]) * columns);
                    rows.finish();
                }
            for (int64_t row = 0; relu && row < batch * num_dst; row++)
                for (int64_t i = 0; i < some; i++) {
                    T& value = first[row * columns + i];
                    if (value < 0) value = 0;
                }
        }
    }
}

// out[cell] = sum over its edges of x[b, src]^T @ grad[b, dst]: gathers a few edges, multiplies them.
template <typename T>
void outer_by_cell(const T* x, const T* grad, Index ptr, Index dst, Index src, T* out,
                   int64_t batch, int64_t num_src, int64_t num_dst, int64_t cells,
                   int64_t channels, int64_t columns, int threads) {
    const Buffer<T> gathered(GATHERED * (channels + PART), threads);
#pragma omp parallel num_threads(threads)
    {
        T* const by = gathered.mine();
        T* const from = by + GATHERED * PART;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t cell = 0; cell < cells; cell++)
            for (int64_t part = 0; part < columns; part += PART) {
                const int64_t some = std::min(PART, columns - part);
                const int64_t next = (some + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
                T* const sums = out + cell * channels * columns + part;
                for (int64_t c = 0; c < channels; c++)
                    std::fill_n(sums + c * columns, some, T(0));
                int64_t count = 0;
                const auto multiply = [&] {
                    for (int64_t i = 0; i < some; i += WIDTH<T>) {
                        const int64_t wide = std::min<int64_t>(WIDTH<T>, some - i);
                        Rows<T> rows(by + i, next, count, wide, channels);
                        for (int64_t c = 0; c < channels; c++)
                            rows.add(from + c, sums + c * columns + i);
                        rows.finish();
                    }
                    count = 0;
                };
                for (int64_t b = 0; b < batch; b++)
                    for (int64_t e = ptr[cell]; e < ptr[cell + 1]; e++) {
                        std::copy_n(x + (b * num_src + src[e]) * channels, channels,
                                    from + count * channels);
                        std::copy_n(grad + (b * num_dst + dst[e]) * columns + part, some,
                                    by + count * next);
                        if (++count == GATHERED) multiply();
                    }
                if (count) multiply();
            }
    }
}

// The same for few channels and many images: a destination's images share its edges.
template <typename T>
void outer_by_node(const T* x, const T* grad, Index ptr, Index src, Index cell, T* out,
                   int64_t batch, int64_t num_src, int64_t num_dst, int64_t cells,
                   int64_t channels, int64_t columns, int threads) {
    const Buffer<T> images(num_src * channels * batch);  // [num_src * channels, batch]
    const Buffer<T> panels(batch * WIDTH<T>, threads);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t i = 0; i < num_src * channels; i++)
            for (int64_t b = 0; b < batch; b++)
                images.numbers[i * batch + b] = x[b * num_src * channels + i];
        T* const panel = panels.mine();
#pragma omp for schedule(dynamic)
        for (int64_t column = 0; column < columns; column += WIDTH<T>) {
            const int64_t some = std::min<int64_t>(WIDTH<T>, columns - column);
            for (int64_t i = 0; i < cells * channels; i++)
                std::fill_n(out + i * columns + column, some, T(0));
            for (int64_t node = 0; node < num_dst; node++) {
                Weight<T>{grad + node * columns, 0, num_dst * columns, 1, columns}.panel(
                    0, 0, batch, column, panel);
                Rows<T> rows(panel, WIDTH<T>, batch, some);
                for (int64_t e = ptr[node]; e < ptr[node + 1]; e++)
                    for (int64_t c = 0; c < channels; c++)
                        rows.add(images.numbers + (src[e] * channels + c) * batch,
                                 out + (cell[e] * channels + c) * columns + column);
                rows.finish();
            }
        }
    }
}

}  // namespace
