// The gather-GEMM of fovigraph/ops/knn_conv.py on a CPU, without storing what it gathers.
//
// All of it is the product of a few rows with a panel of weights, a panel being as wide as two
// vector registers: six rows and two vectors fill the registers of most processors. Rows are read
// where they lie. A call is one parallel region, and every output is summed by one thread in one
// order, so results do not depend on the number of threads.
//
// x [batch, num_src, depth], weight [cells, depth, columns], out [batch, num_dst, columns], all
// contiguous but the weight, whose strides are given: the input gradient has it transposed.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <type_traits>

#include <omp.h>

namespace {

#if defined(__AVX512F__)
constexpr int REGISTER = 64;  // bytes
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

constexpr int ROWS = 6;           // of a tile
constexpr int64_t DEPTH = 512;    // rows of a panel, at most: it then stays in the first cache
constexpr int64_t GATHERED = 64;  // edges, each of one image, that a weight gradient gathers at once
constexpr int64_t PART = 128;     // columns of a weight gradient that one thread computes

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

// What Python calls, for float and double. Returns zero, or one if there is not enough memory.
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
