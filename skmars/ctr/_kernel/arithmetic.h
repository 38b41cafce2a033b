// Vectors of floats, their products in registers, and threads that share out parts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

// A block of a product is ROWS x VECTORS accumulators, as many as there are registers.
#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 5, VECTORS = 5;
#else
constexpr int LANES = 8, ROWS = 2, VECTORS = 5;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

inline float sum_of(Vector v) {
    float sum = 0;
    for (int i = 0; i < LANES; ++i) sum += v[i];
    return sum;
}

// 1 / (1 + exp(-x)). The exponential is that of Cephes: a polynomial on [-ln 2 / 2, ln 2 / 2].
inline Vector sigmoid(Vector x) {
    constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    Vector t = -x;
    t = t > 88.0f ? Vector{} + 88.0f : t;
    t = t < -87.0f ? Vector{} - 87.0f : t;
    Vector n = t * 1.44269504f + MAGIC;
    const Integers exponent = ((Integers)n << 23) + 0x3f800000;
    n -= MAGIC;
    Vector r = t - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return 1.0f / (1.0f + p * (Vector)exponent);
}

template <int M, int N>
inline void product_block(int64_t depth, const float* a, int64_t a_row, int64_t a_column, const float* b,
                          int64_t b_row, const float* start, float* c, int64_t c_row) {
    Vector sums[M][N];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) sums[i][j] = load(start ? start + j * LANES : c + i * c_row + j * LANES);
    for (int64_t k = 0; k < depth; ++k) {
        Vector right[N];
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) right[j] = load(b + k * b_row + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            const Vector left = Vector{} + a[i * a_row + k * a_column];
#pragma GCC unroll 8
            for (int j = 0; j < N; ++j) sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) store(c + i * c_row + j * LANES, sums[i][j]);
}

template <int N>
inline void product_columns(int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_column,
                            const float* b, int64_t b_row, const float* start, float* c, int64_t c_row) {
    int64_t i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        product_block<ROWS, N>(depth, a + i * a_row, a_row, a_column, b, b_row, start, c + i * c_row, c_row);
    for (; i + 2 <= rows; i += 2)
        product_block<2, N>(depth, a + i * a_row, a_row, a_column, b, b_row, start, c + i * c_row, c_row);
    for (; i < rows; ++i)
        product_block<1, N>(depth, a + i * a_row, a_row, a_column, b, b_row, start, c + i * c_row, c_row);
}

// C = start + A B, or C += A B without start. A is (rows, depth) with any strides; B (depth, columns),
// C (rows, columns) and start (columns) are padded to whole vectors. Each number of C is summed in
// the order of the depth, whatever stands beside it.
inline void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t a_row,
                    int64_t a_column, const float* b, int64_t b_row, const float* start, float* c,
                    int64_t c_row) {
    int64_t j = 0;
    const auto at = [&](const float* s) { return s ? s + j : nullptr; };
    for (; j + VECTORS * LANES <= columns; j += VECTORS * LANES)
        product_columns<VECTORS>(rows, depth, a, a_row, a_column, b + j, b_row, at(start), c + j, c_row);
    for (; j + 3 * LANES <= columns; j += 3 * LANES)
        product_columns<3>(rows, depth, a, a_row, a_column, b + j, b_row, at(start), c + j, c_row);
    for (; j + 2 * LANES <= columns; j += 2 * LANES)
        product_columns<2>(rows, depth, a, a_row, a_column, b + j, b_row, at(start), c + j, c_row);
    for (; j < columns; j += LANES)
        product_columns<1>(rows, depth, a, a_row, a_column, b + j, b_row, at(start), c + j, c_row);
}

// The threads of the process, which wait for work. Each takes parts of it, whichever is free. The
// caller's thread takes parts, too, and waits for parts, not for threads: one that gets no core
// delays nobody.
class Threads {
  public:
    // Those of this process: a forked one has none of its parent's.
    static Threads& here() {
        // Never deleted: they wait until the process ends. No lock, which a fork might inherit.
        static std::atomic<Threads*> made{nullptr};
        Threads* found = made;
        while (found == nullptr || found->process_ != getpid()) {
            auto own = std::make_unique<Threads>();
            if (made.compare_exchange_strong(found, own.get())) return *own.release();
        }
        return *found;
    }

    std::mutex in_use;
    // Large arrays of the last call: memory that is given back and asked for again in each training
    // step comes as new pages each time, which takes a tenth of the step.
    std::vector<std::vector<float>> kept;

    // Call work(part, thread) for each part, on some threads of numbers below n_threads.
    void share_out(int64_t n_parts, int n_threads, const std::function<void(int64_t, int)>& work) {
        try {
            while (static_cast<int>(threads_.size()) + 1 < n_threads)
                threads_.emplace_back([this, i = static_cast<int>(threads_.size()) + 1] { serve(i); });
        } catch (const std::system_error&) {
            // The system allows no more threads: those that are there do all.
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work, n_parts_ = n_parts, n_threads_ = n_threads, next_ = 0, n_done_ = 0;
            error_ = nullptr;
            ++generation_;
        }
        wake_.notify_all();
        take_parts(0);
        for (int i = 0; i < SPINS && n_done_ < n_parts; ++i) std::this_thread::yield();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [&] { return n_done_ == n_parts; });
        n_parts_ = 0;
        if (error_) std::rethrow_exception(error_);
    }

  private:
    static constexpr int SPINS = 100;  // some twenty microseconds, as long as waking a thread takes

    void take_parts(int thread) {
        for (;;) {
            int64_t part;
            const std::function<void(int64_t, int)>* work;
            {
                std::lock_guard<std::mutex> lock(mutex_);
                if (next_ >= n_parts_ || thread >= n_threads_) return;
                part = next_++, work = work_;
            }
            std::exception_ptr error;
            try {
                (*work)(part, thread);
            } catch (...) {
                error = std::current_exception();  // which other threads must not be left with
            }
            std::lock_guard<std::mutex> lock(mutex_);
            if (error) error_ = error;
            if (++n_done_ == n_parts_) done_.notify_one();
        }
    }

    void serve(int thread) {
        for (int64_t seen = 0;;) {
            for (int i = 0; i < SPINS && generation_ == seen; ++i) std::this_thread::yield();
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return generation_ != seen; });
                seen = generation_;
            }
            take_parts(thread);
        }
    }

    const pid_t process_ = getpid();
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::atomic<int64_t> generation_{0}, n_done_{0};
    int64_t n_parts_ = 0, next_ = 0;
    int n_threads_ = 1;
    const std::function<void(int64_t, int)>* work_ = nullptr;
    std::exception_ptr error_;
};

// The use of the threads and the memory for a while; where somebody else uses them, the caller's
// thread works alone.
class Team {
  public:
    explicit Team(int n_threads) : threads_(Threads::here()), lock_(threads_.in_use, std::try_to_lock) {
        if (lock_) n_threads_ = n_threads;
    }

    int size() const { return n_threads_; }

    // Call work(part, thread) for each part; return when all are done.
    void share_out(int64_t n_parts, const std::function<void(int64_t, int)>& work) {
        if (n_threads_ > 1 && n_parts > 1) return threads_.share_out(n_parts, n_threads_, work);
        for (int64_t part = 0; part < n_parts; ++part) work(part, 0);
    }

    // An array of this size, of any content.
    float* array(int64_t size) {
        auto& kept = lock_ ? threads_.kept : own_;
        if (kept.size() == n_arrays_) kept.emplace_back();
        auto& found = kept[n_arrays_++];
        if (found.size() < static_cast<size_t>(size)) found = std::vector<float>(size);
        return found.data();
    }

  private:
    Threads& threads_;
    std::unique_lock<std::mutex> lock_;
    int n_threads_ = 1;
    size_t n_arrays_ = 0;
    std::vector<std::vector<float>> own_;
};

}  // namespace
