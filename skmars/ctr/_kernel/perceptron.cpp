// A perceptron with Dice between its layers, slice by slice: the compiled form of
// `skmars/ctr/_layers.py`, which is its reference.
//
// Two uses. *Attention*: positions of ragged histories, whose first layer sees a query q and a key k,
//     h = (P + diag(q) R)^T k + B^T q + b,   the factored first layer of the local activation unit,
// one matrix and one vector a row; scores pool the keys of each row. *Plain*: the rows of a matrix.
//
// A tile of positions goes through all layers in the cache. Dice needs the mean and variance of a
// whole batch, so that training takes a pass a layer, forward and backward. Rows are cut into shards,
// by their number and lengths alone; what is summed over shards is summed in their order, so that the
// number of threads changes no bit.

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>

#include "arithmetic.h"

extern "C" {

// The same in `__init__.py`. Arrays are C-contiguous.
struct Perceptron {
    // Rows: the positions of row r are those from start[r] on; offset counts them over all rows.
    int64_t n_rows, n_inputs, n_layers, n_threads;  // n_inputs: of a row (plain), or of a key
    const int64_t* widths;                          // of the hidden layers
    const int64_t *start, *offset;                  // attention
    const float* query;                             // attention: (n_rows, n_inputs)
    const float* table;                             // keys, or the rows themselves (plain)
    const int64_t* at;                              // key of each position; null: in order
    const float* row_weight;                        // how often a row counts in statistics; null: once
    // Parameters of the layers, the output (one unit) last.
    const float *const *weight, *const *bias, *const *alpha;
    float *const *mean, *const *variance;  // of each hidden layer; written in training
    double eps;
    // Results.
    float* hidden;  // kept for the backward pass; null in evaluation
    float* score;
    float* pooled;  // attention: (n_rows, n_inputs)
    // Backward: gradients, those of parameters and table to be filled.
    const float *d_score, *d_pooled;  // plain; attention
    float *const *d_weight, *const *d_bias, *const *d_alpha;
    float *d_query, *d_table;
    int64_t n_table;
    // Replaces numbers by their sums over the processes that have the rows of a batch; null: one.
    void (*sum_over_processes)(double*, int64_t);
};

}  // extern "C"

namespace {

constexpr int64_t TILE = 40;             // positions that go through a layer together
constexpr int64_t SHARDS = 16;           // of a batch, unless they become too small or large
constexpr int64_t LEAST_POSITIONS = 128, MOST_POSITIONS = 2048;
constexpr int64_t ROWS_A_SHARD = 64;     // plain

using Buffer = std::vector<float>;

// Positions begin .. begin + count of a row, as a part of a tile.
struct Segment {
    int64_t row, first, in_tile, count;  // first: its position in the row
};

// Sums, and sums of squares, of differences to a value near the mean.
struct Moments {
    double count = 0;
    Buffer shift, sum, square;
};

// Dice of known statistics: y = h f, f = alpha + (1 - alpha) sigmoid(z), z = (h - mean) * scale.
struct Gate {
    Buffer alpha, gain, scale, shift;
    // What reaches h through its mean and variance is linear in h.
    Buffer slope, constant;
};

class Pass {
  public:
    explicit Pass(const Perceptron& of)
        : of_(of), plain_(of.query == nullptr), depth_(of.n_layers), team_(n_useful_threads(of)) {
        for (int64_t l = 0; l < depth_; ++l) {
            width_.push_back(of.widths[l]);
            wide_.push_back(padded(of.widths[l]));
        }
        n_inputs_ = of.n_inputs, wide_inputs_ = padded(n_inputs_);
        n_positions_ = plain_ ? of.n_rows : of.offset[of.n_rows];
        cut();
        pack();
        for (int i = 0; i < team_.size(); ++i) threads_.emplace_back(new Thread(*this));
    }

    void train() {
        gates_.resize(depth_);
        std::vector<Moments> moments(n_shards());
        team_.share_out(n_shards(), [&](int64_t s, int i) { first_pass(s, *threads_[i], moments[s]); });
        for (int64_t l = 0; l < depth_; ++l) {
            merge(moments, l);
            make_gate(l);
            team_.share_out(n_shards(), [&](int64_t s, int i) {
                moments[s] = Moments();
                forward_pass(s, l, *threads_[i], moments[s]);
            });
        }
    }

    void predict() {
        gates_.resize(depth_);
        for (int64_t l = 0; l < depth_; ++l) make_gate(l);
        team_.share_out(n_shards(), [&](int64_t s, int i) { evaluation_pass(s, *threads_[i]); });
    }

    void backward() {
        gates_.resize(depth_);
        for (int64_t l = 0; l < depth_; ++l) make_gate(l);
        lay_out_gradients();
        direct_ = team_.array(hidden(depth_) - of_.hidden);
        if (!plain_) {
            d_key_ = team_.array(n_positions_ * wide_inputs_);
            d_matrices_ = team_.array(of_.n_rows * (n_inputs_ + 1) * wide_[0]);
        }
        gradients_ = team_.array(n_shards() * n_gradients_);
        team_.share_out(n_shards(), [&](int64_t s, int) { std::fill_n(gradients_of(s), n_gradients_, 0.0f); });
        for (int64_t l = depth_ - 1; l >= 0; --l) {
            team_.share_out(n_shards(), [&](int64_t s, int i) { backward_pass(s, l, *threads_[i]); });
            through_statistics(l);
        }
        team_.share_out(n_shards(), [&](int64_t s, int i) {
            plain_ ? last_pass_of_rows(s, *threads_[i]) : last_pass_of_histories(s, *threads_[i]);
        });
        sum_gradients();
        if (!plain_) scatter();
    }

  private:
    struct Thread {
        explicit Thread(const Pass& pass) {
            const int64_t widest = *std::max_element(pass.wide_.begin(), pass.wide_.end());
            keys.resize(TILE * pass.wide_inputs_);
            for (Buffer* each : {&one, &two, &three}) each->resize(TILE * std::max(widest, pass.wide_inputs_));
            for (Buffer* each : {&scores, &weights}) each->resize(TILE + 1);
            const int64_t first = pass.n_inputs_ * pass.wide_[0];
            for (Buffer* each : {&matrix, &sloped}) each->resize(first);
            for (Buffer* each : {&vector, &offset}) each->resize(pass.wide_[0]);
            for (Buffer* each : {&outer, &to_key}) each->resize(pass.n_inputs_ * pass.wide_inputs_);
            matrix_T.resize(pass.wide_inputs_ * pass.width_[0]), sum.resize(pass.wide_inputs_);
            widened.resize(pass.wide_inputs_);
            segments.reserve(TILE);
        }
        Buffer keys, one, two, three, scores, weights, widened, matrix, matrix_T, vector, sloped, offset, outer, sum, to_key;
        std::vector<Segment> segments;
        int64_t row_of_matrix = -1;
    };

    static int n_useful_threads(const Perceptron& of) {
        const bool plain = of.query == nullptr;
        const int64_t work = plain ? of.n_rows / ROWS_A_SHARD : of.offset[of.n_rows] / LEAST_POSITIONS;
        return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(of.n_threads, work)));
    }

    float* gradients_of(int64_t shard) const { return gradients_ + shard * n_gradients_; }
    int64_t n_shards() const { return static_cast<int64_t>(shards_.size()) - 1; }
    // Pre-activations are kept of the second and later layers; the first one's are made again, but
    // for those of plain rows.
    float* hidden(int64_t l) const {
        int64_t before = 0;
        for (int64_t i = plain_ ? 0 : 1; i < l; ++i) before += wide_[i];
        return of_.hidden + before * n_positions_;
    }
    float* direct(int64_t l) const { return direct_ + (hidden(l) - of_.hidden); }
    float row_weight(int64_t row) const { return of_.row_weight ? of_.row_weight[row] : 1.0f; }
    int64_t offset(int64_t row) const { return plain_ ? row : of_.offset[row]; }

    void cut() {
        const int64_t size = plain_ ? ROWS_A_SHARD : std::clamp(n_positions_ / SHARDS, LEAST_POSITIONS, MOST_POSITIONS);
        shards_.push_back(0);
        for (int64_t r = 1; r < of_.n_rows; ++r)
            if (offset(r) - offset(shards_.back()) >= size) shards_.push_back(r);
        shards_.push_back(of_.n_rows);
    }

    // Matrices as products want them: rows padded to whole vectors.
    void pack() {
        const float* first = of_.weight[0];
        const int64_t D = n_inputs_, H = width_[0], wide = wide_[0];
        const int64_t n_blocks = plain_ ? 1 : 3;
        blocks_.assign(n_blocks * D * wide, 0.0f);
        for (int64_t b = 0; b < n_blocks; ++b)
            for (int64_t i = 0; i < D; ++i)
                for (int64_t u = 0; u < H; ++u)
                    blocks_[(b * D + i) * wide + u] = first[u * n_blocks * D + b * D + i];
        blocks_T_.assign(std::min<int64_t>(n_blocks, 2) * H * wide_inputs_, 0.0f);
        for (int64_t b = 0; b < std::min<int64_t>(n_blocks, 2); ++b)
            for (int64_t u = 0; u < H; ++u)
                for (int64_t i = 0; i < D; ++i)
                    blocks_T_[(b * H + u) * wide_inputs_ + i] = first[u * n_blocks * D + b * D + i];
        for (int64_t l = 0; l < depth_; ++l) {
            bias_.push_back(vector_of(of_.bias[l], l));
            Buffer next, back;
            if (l + 1 < depth_) {
                const int64_t n = width_[l + 1], m = width_[l];
                next.assign(m * wide_[l + 1], 0.0f), back.assign(n * wide_[l], 0.0f);
                for (int64_t v = 0; v < n; ++v)
                    for (int64_t u = 0; u < m; ++u) {
                        next[u * wide_[l + 1] + v] = of_.weight[l + 1][v * m + u];
                        back[v * wide_[l] + u] = of_.weight[l + 1][v * m + u];
                    }
            } else {
                back = vector_of(of_.weight[depth_], l);
            }
            next_.push_back(next), back_.push_back(back);
        }
        if (!plain_) {
            table_ = team_.array(of_.n_table * wide_inputs_);
            constexpr int64_t CHUNK = 512;
            team_.share_out((of_.n_table + CHUNK - 1) / CHUNK, [&](int64_t part, int) {
                for (int64_t k = part * CHUNK; k < std::min(of_.n_table, (part + 1) * CHUNK); ++k) {
                    float* to = table_ + k * wide_inputs_;
                    std::fill(std::copy(of_.table + k * D, of_.table + (k + 1) * D, to), to + wide_inputs_, 0.0f);
                }
            });
        }
        zeros_.assign(std::max(*std::max_element(wide_.begin(), wide_.end()), wide_inputs_), 0.0f);
    }

    Buffer vector_of(const float* values, int64_t l, float otherwise = 0.0f) const {
        Buffer result(wide_[l], otherwise);
        std::copy(values, values + width_[l], result.begin());
        return result;
    }

    void make_gate(int64_t l) {
        Gate& gate = gates_[l];
        gate.alpha = vector_of(of_.alpha[l], l);
        gate.gain.assign(wide_[l], 0.0f), gate.scale = gate.shift = gate.gain;
        for (int64_t u = 0; u < width_[l]; ++u) {
            gate.gain[u] = 1.0f - gate.alpha[u];
            gate.scale[u] = 1.0f / std::sqrt(of_.variance[l][u] + static_cast<float>(of_.eps));
            gate.shift[u] = -of_.mean[l][u] * gate.scale[u];
        }
    }

    // Merge the moments of shards (Chan, Golub and LeVeque, The American Statistician 37, 1983), and
    // those of processes.
    void merge(const std::vector<Moments>& moments, int64_t l) const {
        const int64_t n = width_[l];
        std::vector<double> means(n + 1), scatters(n);  // the count stands last, where sums are exchanged
        double& count = means[n];
        for (const Moments& part : moments) {
            if (part.count == 0) continue;
            const double total = count + part.count;
            for (int64_t u = 0; u < n; ++u) {
                const double away = part.sum[u] / part.count, difference = part.shift[u] + away - means[u];
                scatters[u] += std::max(0.0, part.square[u] - part.sum[u] * away);
                scatters[u] += difference * difference * count * part.count / total;
                means[u] += difference * part.count / total;
            }
            count = total;
        }
        if (of_.sum_over_processes) {
            const std::vector<double> own = means;
            for (int64_t u = 0; u < n; ++u) means[u] *= own[n];
            of_.sum_over_processes(means.data(), n + 1);
            for (int64_t u = 0; u < n; ++u) {
                means[u] /= count;
                scatters[u] += own[n] * (own[u] - means[u]) * (own[u] - means[u]);
            }
            of_.sum_over_processes(scatters.data(), n);
        }
        for (int64_t u = 0; u < n; ++u) {
            of_.mean[l][u] = static_cast<float>(means[u]);
            of_.variance[l][u] = static_cast<float>(scatters[u] / count);
        }
    }

    void add_moments(Moments& moments, const float* h, int64_t n, int64_t wide, const float* weight) const {
        if (moments.shift.empty()) {
            moments.shift.assign(h, h + wide);
            moments.sum.assign(wide, 0.0f), moments.square.assign(wide, 0.0f);
        }
        for (int64_t j = 0; j < n; ++j) moments.count += weight[j];
        for (int64_t u = 0; u < wide; u += LANES) {
            const Vector shift = load(&moments.shift[u]);
            Vector sum = load(&moments.sum[u]), square = load(&moments.square[u]);
            for (int64_t j = 0; j < n; ++j) {
                const Vector d = load(h + j * wide + u) - shift, weighed = weight[j] * d;
                sum += weighed;
                square += weighed * d;
            }
            store(&moments.sum[u], sum), store(&moments.square[u], square);
        }
    }

    // Call work(begin, count) for each tile of a shard, with the segments of rows in it.
    template <class Work>
    void for_tiles(int64_t shard, Thread& thread, const Work& work) const {
        const int64_t stop = offset(shards_[shard + 1]);
        int64_t row = shards_[shard];
        thread.row_of_matrix = -1;
        for (int64_t begin = offset(row); begin < stop; begin += TILE) {
            const int64_t end = std::min(begin + TILE, stop);
            thread.segments.clear();
            for (int64_t p = begin; p < end;) {
                while (offset(row + 1) <= p) ++row;
                const int64_t until = std::min(end, offset(row + 1));
                thread.segments.push_back({row, p - offset(row), p - begin, until - p});
                std::fill(&thread.weights[p - begin], &thread.weights[until - begin], row_weight(row));
                p = until;
            }
            work(begin, end - begin);
        }
    }

    void gather_keys(Thread& thread) const {
        for (const Segment& segment : thread.segments) {
            const int64_t begin = of_.start[segment.row] + segment.first;
            float* to = &thread.keys[segment.in_tile * wide_inputs_];
            for (int64_t p = begin; p < begin + segment.count; ++p) {
                const float* key = table_ + (of_.at ? of_.at[p] : p) * wide_inputs_;
                for (int64_t i = 0; i < wide_inputs_; i += LANES, to += LANES) store(to, load(key + i));
            }
        }
    }

    // A vector of the width of keys, padded with zeros.
    const float* widened(const float* values, Thread& thread) const {
        std::copy(values, values + n_inputs_, thread.widened.data());
        return thread.widened.data();
    }

    // Make the matrix P + diag(q) R and the vector B^T q + b of a row.
    void make_matrix(int64_t row, Thread& thread) const {
        if (thread.row_of_matrix == row) return;
        thread.row_of_matrix = row;
        const int64_t D = n_inputs_, wide = wide_[0];
        const float *q = of_.query + row * D, *P = blocks_.data(), *R = P + D * wide, *B = R + D * wide;
        for (int64_t u = 0; u < wide; u += LANES) {
            Vector vector = load(&bias_[0][u]);
            for (int64_t i = 0; i < D; ++i) {
                store(&thread.matrix[i * wide + u], load(P + i * wide + u) + q[i] * load(R + i * wide + u));
                vector += q[i] * load(B + i * wide + u);
            }
            store(&thread.vector[u], vector);
        }
    }

    // Pre-activations of the first layer of a tile, into `out` or where they are kept.
    const float* first_layer(int64_t begin, Thread& thread, float* out) const {
        const int64_t wide = wide_[0];
        if (plain_) return hidden(0) + begin * wide;
        gather_keys(thread);
        for (const Segment& segment : thread.segments) {
            make_matrix(segment.row, thread);
            product(segment.count, wide, n_inputs_, &thread.keys[segment.in_tile * wide_inputs_], wide_inputs_, 1,
                    thread.matrix.data(), wide, thread.vector.data(), out + segment.in_tile * wide, wide);
        }
        return out;
    }

    void plain_layer(int64_t begin, int64_t n, float* out) const {
        product(n, wide_[0], n_inputs_, of_.table + begin * n_inputs_, n_inputs_, 1, blocks_.data(), wide_[0],
                bias_[0].data(), out, wide_[0]);
    }

    const float* layer(int64_t l, int64_t begin, Thread& thread, float* out) const {
        return l == 0 ? first_layer(begin, thread, out) : hidden(l) + begin * wide_[l];
    }

    void dice(int64_t l, const float* h, int64_t n, float* y) const {
        const Gate& gate = gates_[l];
        const int64_t wide = wide_[l];
        for (int64_t u = 0; u < wide; u += LANES) {
            const Vector scale = load(&gate.scale[u]), shift = load(&gate.shift[u]);
            const Vector alpha = load(&gate.alpha[u]), gain = load(&gate.gain[u]);
            for (int64_t j = 0; j < n; ++j) {
                const Vector x = load(h + j * wide + u);
                store(y + j * wide + u, x * (alpha + gain * sigmoid(x * scale + shift)));
            }
        }
    }

    void output(const float* y, int64_t n, float* score) const {
        const int64_t wide = wide_[depth_ - 1];
        for (int64_t j = 0; j < n; ++j) {
            Vector sum{};
            for (int64_t u = 0; u < wide; u += LANES) sum += load(y + j * wide + u) * load(&back_[depth_ - 1][u]);
            score[j] = of_.bias[depth_][0] + sum_of(sum);
        }
    }

    void pool(Thread& thread, const float* score) const {
        for (const Segment& segment : thread.segments) {
            float *pooled = of_.pooled + segment.row * n_inputs_, *sums = thread.widened.data();
            std::copy(pooled, pooled + n_inputs_, sums);
            for (int64_t j = segment.in_tile; j < segment.in_tile + segment.count; ++j)
                for (int64_t i = 0; i < wide_inputs_; i += LANES)
                    store(sums + i, load(sums + i) + score[j] * load(&thread.keys[j * wide_inputs_ + i]));
            std::copy(sums, sums + n_inputs_, pooled);
        }
    }

    void first_pass(int64_t shard, Thread& thread, Moments& moments) const {
        for_tiles(shard, thread, [&](int64_t begin, int64_t n) {
            float* out = thread.one.data();
            if (plain_)
                plain_layer(begin, n, out = hidden(0) + begin * wide_[0]);
            else
                first_layer(begin, thread, out);
            add_moments(moments, out, n, wide_[0], thread.weights.data());
        });
    }

    void forward_pass(int64_t shard, int64_t l, Thread& thread, Moments& moments) const {
        for_tiles(shard, thread, [&](int64_t begin, int64_t n) {
            const float* h = layer(l, begin, thread, thread.one.data());
            dice(l, h, n, thread.two.data());
            if (l + 1 < depth_) {
                float* next = hidden(l + 1) + begin * wide_[l + 1];
                product(n, wide_[l + 1], width_[l], thread.two.data(), wide_[l], 1, next_[l].data(), wide_[l + 1],
                        bias_[l + 1].data(), next, wide_[l + 1]);
                add_moments(moments, next, n, wide_[l + 1], thread.weights.data());
                return;
            }
            output(thread.two.data(), n, of_.score + begin);
            if (plain_) return;
            if (l > 0) gather_keys(thread);
            pool(thread, of_.score + begin);
        });
    }

    void evaluation_pass(int64_t shard, Thread& thread) const {
        for_tiles(shard, thread, [&](int64_t begin, int64_t n) {
            float *here = thread.one.data(), *there = thread.two.data();
            if (plain_)
                plain_layer(begin, n, here);
            else
                first_layer(begin, thread, here);
            for (int64_t l = 0; l < depth_; ++l) {
                dice(l, here, n, here);
                if (l + 1 == depth_) break;
                product(n, wide_[l + 1], width_[l], here, wide_[l], 1, next_[l].data(), wide_[l + 1],
                        bias_[l + 1].data(), there, wide_[l + 1]);
                std::swap(here, there);
            }
            float* score = plain_ ? of_.score + begin : thread.scores.data();
            output(here, n, score);
            if (!plain_) pool(thread, score);
        });
    }

    // Where the gradients of a shard lie, one after another.
    void lay_out_gradients() {
        n_gradients_ = 0;
        const auto place = [&](int64_t n) {
            const int64_t at = n_gradients_;
            n_gradients_ += n;
            return at;
        };
        place(static_cast<int64_t>(blocks_.size()));
        for (int64_t l = 0; l < depth_; ++l) {
            bias_at_.push_back(place(wide_[l]));
            weight_at_.push_back(place(l + 1 < depth_ ? width_[l + 1] * wide_[l] : wide_[l]));
            sums_at_.push_back(place(3 * wide_[l]));  // of d_alpha, d_z, d_z z
        }
        output_at_ = place(1);
    }

    // The gradient at the scores, or pre-activations, that layer l leads to.
    const float* after(int64_t l, int64_t begin, int64_t n, Thread& thread) const {
        if (l + 1 < depth_) return whole_gradient(l + 1, begin, n, thread, thread.three.data());
        if (plain_) return of_.d_score + begin;
        if (l > 0) gather_keys(thread);
        for (const Segment& segment : thread.segments) {
            const float* d = widened(of_.d_pooled + segment.row * n_inputs_, thread);
            for (int64_t j = segment.in_tile; j < segment.in_tile + segment.count; ++j) {
                Vector sum{};
                for (int64_t i = 0; i < wide_inputs_; i += LANES) sum += load(d + i) * load(&thread.keys[j * wide_inputs_ + i]);
                thread.scores[j] = sum_of(sum);
            }
        }
        return thread.scores.data();
    }

    // At the pre-activations of layer l: directly, and through their mean and variance.
    const float* whole_gradient(int64_t l, int64_t begin, int64_t n, Thread& thread, float* out) const {
        const int64_t wide = wide_[l];
        const float *h = hidden(l) + begin * wide, *direct = this->direct(l) + begin * wide;
        for (int64_t u = 0; u < wide; u += LANES) {
            const Vector slope = load(&gates_[l].slope[u]), constant = load(&gates_[l].constant[u]);
            for (int64_t j = 0; j < n; ++j) {
                const Vector through = thread.weights[j] * (load(h + j * wide + u) * slope + constant);
                store(out + j * wide + u, load(direct + j * wide + u) + through);
            }
        }
        return out;
    }

    void backward_pass(int64_t shard, int64_t l, Thread& thread) const {
        float* gradients = gradients_of(shard);
        const Gate& gate = gates_[l];
        const int64_t wide = wide_[l], next = l + 1 < depth_ ? wide_[l + 1] : 1;
        const bool is_last = l + 1 == depth_, in_place = l == 0 && !plain_;
        for_tiles(shard, thread, [&](int64_t begin, int64_t n) {
            const float* h = layer(l, begin, thread, thread.one.data());
            const float* d = after(l, begin, n, thread);
            float *e = thread.two.data(), *y = e, *g = in_place ? thread.one.data() : direct(l) + begin * wide;
            if (is_last)
                for (int64_t j = 0; j < n; ++j) gradients[output_at_] += d[j];
            else
                product(n, wide, width_[l + 1], d, next, 1, back_[l].data(), wide, zeros_.data(), e, wide);
            float *sums = gradients + sums_at_[l], *d_weight = gradients + weight_at_[l];
            for (int64_t u = 0; u < wide; u += LANES) {
                const Vector scale = load(&gate.scale[u]), shift = load(&gate.shift[u]);
                const Vector alpha = load(&gate.alpha[u]), gain = load(&gate.gain[u]), inner = gain * scale;
                const Vector weight = load(&back_[l][u]);  // of the output
                Vector d_alpha = load(sums + u), d_z = load(sums + wide + u), d_z_z = load(sums + 2 * wide + u);
                Vector d_output = is_last ? load(d_weight + u) : Vector{};
                for (int64_t j = 0; j < n; ++j) {
                    const Vector x = load(h + j * wide + u), z = x * scale + shift, p = sigmoid(z);
                    const Vector f = alpha + gain * p;
                    const Vector from = is_last ? d[j] * weight : load(e + j * wide + u);  // at y
                    Vector by = from * x * (1.0f - p);
                    d_alpha += by;
                    by *= p;  // at z, but for the gain
                    d_z += by;
                    d_z_z += by * z;
                    store(g + j * wide + u, from * f + by * inner);
                    if (is_last)
                        d_output += d[j] * (x * f);
                    else
                        store(y + j * wide + u, x * f);
                }
                store(sums + u, d_alpha), store(sums + wide + u, d_z), store(sums + 2 * wide + u, d_z_z);
                if (is_last) store(d_weight + u, d_output);
            }
            if (!is_last) {
                product(width_[l + 1], wide, n, d, 1, next, y, wide, nullptr, d_weight, wide);
                add_rows(d, n, next, gradients + bias_at_[l + 1]);
            }
            if (!in_place) return;
            for (const Segment& segment : thread.segments) {
                d_pooling(segment, begin, thread);
                d_first_layer(segment, begin, g, thread);
            }
        });
    }

    static void add_rows(const float* d, int64_t n, int64_t wide, float* sums) {
        for (int64_t u = 0; u < wide; u += LANES) {
            Vector sum = load(sums + u);
            for (int64_t j = 0; j < n; ++j) sum += load(d + j * wide + u);
            store(sums + u, sum);
        }
    }

    // What reaches the pre-activations of layer l through Var[h] and E[h], as slope * h + constant.
    void through_statistics(int64_t l) {
        Gate& gate = gates_[l];
        const int64_t wide = wide_[l], n = width_[l];
        std::vector<double> sums(2 * n + 1);
        for (int64_t u = 0; u < n; ++u) {
            double d_alpha = 0;
            for (int64_t s = 0; s < n_shards(); ++s) {
                const float* at = gradients_of(s) + sums_at_[l] + u;
                d_alpha += at[0], sums[u] += at[wide], sums[n + u] += at[2 * wide];
            }
            of_.d_alpha[l][u] = static_cast<float>(d_alpha);
        }
        for (int64_t r = 0; r < of_.n_rows; ++r) sums[2 * n] += row_weight(r) * static_cast<double>(offset(r + 1) - offset(r));
        if (of_.sum_over_processes) of_.sum_over_processes(sums.data(), 2 * n + 1);
        gate.slope.assign(wide, 0.0f), gate.constant.assign(wide, 0.0f);
        for (int64_t u = 0; u < n; ++u) {
            const double factor = -gate.gain[u] * gate.scale[u] / sums[2 * n], slope = factor * gate.scale[u] * sums[n + u];
            gate.slope[u] = static_cast<float>(slope);
            gate.constant[u] = static_cast<float>(factor * sums[u] - slope * of_.mean[l][u]);
        }
    }

    // Plain: the gradients of the first layer and of the rows.
    void last_pass_of_rows(int64_t shard, Thread& thread) const {
        float* gradients = gradients_of(shard);
        const int64_t wide = wide_[0], D = n_inputs_;
        for_tiles(shard, thread, [&](int64_t begin, int64_t n) {
            const float* d = whole_gradient(0, begin, n, thread, thread.two.data());
            product(D, wide, n, of_.table + begin * D, 1, D, d, wide, nullptr, gradients, wide);
            add_rows(d, n, wide, gradients + bias_at_[0]);
            float* out = thread.three.data();
            product(n, wide_inputs_, width_[0], d, wide, 1, blocks_T_.data(), wide_inputs_, zeros_.data(), out,
                    wide_inputs_);
            for (int64_t j = 0; j < n; ++j)
                std::copy(out + j * wide_inputs_, out + j * wide_inputs_ + D, of_.d_table + (begin + j) * D);
        });
    }

    // What reaches keys as what is pooled: the beginning of their gradient.
    void d_pooling(const Segment& segment, int64_t begin, Thread& thread) const {
        const float* score = of_.score + begin + segment.in_tile;
        const float* d = widened(of_.d_pooled + segment.row * n_inputs_, thread);
        float* d_key = d_key_ + (begin + segment.in_tile) * wide_inputs_;
        for (int64_t j = 0; j < segment.count; ++j)
            for (int64_t i = 0; i < wide_inputs_; i += LANES, d_key += LANES) store(d_key, score[j] * load(d + i));
    }

    // The transposed matrix of a row.
    const float* make_matrix_T(int64_t row, Thread& thread) const {
        const int64_t n = width_[0] * wide_inputs_;
        const float *P_T = blocks_T_.data(), *R_T = P_T + n, *q = widened(of_.query + row * n_inputs_, thread);
        for (int64_t u = 0; u < n; u += wide_inputs_)
            for (int64_t i = 0; i < wide_inputs_; i += LANES)
                store(&thread.matrix_T[u + i], load(P_T + u + i) + load(R_T + u + i) * load(q + i));
        return thread.matrix_T.data();
    }

    // Gradients of the matrix and the vector of a row, one after another.
    float* d_matrix_of(int64_t row) const { return d_matrices_ + row * (n_inputs_ + 1) * wide_[0]; }

    // By the gradient d at pre-activations of the first layer, but for what reaches them through
    // their statistics.
    void d_first_layer(const Segment& segment, int64_t begin, const float* d, Thread& thread) const {
        const int64_t wide = wide_[0], D = n_inputs_, n = segment.count;
        const float* keys = &thread.keys[segment.in_tile * wide_inputs_];
        float *d_matrix = d_matrix_of(segment.row), *d_vector = d_matrix + D * wide;
        d += segment.in_tile * wide;
        if (segment.first == 0) {
            std::fill(d_matrix, d_vector + wide, 0.0f);
            make_matrix_T(segment.row, thread);
        }
        product(D, wide, n, keys, 1, wide_inputs_, d, wide, nullptr, d_matrix, wide);
        add_rows(d, n, wide, d_vector);
        product(n, wide_inputs_, width_[0], d, wide, 1, thread.matrix_T.data(), wide_inputs_, nullptr,
                d_key_ + (begin + segment.in_tile) * wide_inputs_, wide_inputs_);
    }

    // What reaches the pre-activations h = M^T k + c of a row through their statistics is linear in
    // them, S h + t, and so in the keys: their gradients are M S M^T k + M (S c + t), that of the matrix
    // K M S + s (S c + t)^T, with the sum s of the keys and K of their outer products.
    void last_pass_of_histories(int64_t shard, Thread& thread) const {
        float* gradients = gradients_of(shard);
        const int64_t wide = wide_[0], D = n_inputs_, wide_D = wide_inputs_;
        const float *slope = gates_[0].slope.data(), *constant = gates_[0].constant.data();
        float *sloped = thread.sloped.data(), *offset = thread.offset.data();  // M S, S c + t
        float *outer = thread.outer.data(), *sum = thread.sum.data();          // K, s
        float *to_key = thread.to_key.data(), *to_key_0 = thread.widened.data();
        for (int64_t row = shards_[shard]; row < shards_[shard + 1]; ++row) {
            const int64_t begin = this->offset(row), n = this->offset(row + 1) - begin;
            if (n == 0) continue;
            const float weight = row_weight(row);
            std::fill_n(outer, D * wide_D, 0.0f), std::fill_n(sum, wide_D, 0.0f);
            for_row(row, thread, [&](int64_t, int64_t count) {
                product(D, wide_D, count, thread.keys.data(), 1, wide_D, thread.keys.data(), wide_D, nullptr, outer,
                        wide_D);
                add_rows(thread.keys.data(), count, wide_D, sum);
            });
            thread.row_of_matrix = -1;
            make_matrix(row, thread);
            const float* matrix_T = make_matrix_T(row, thread);
            float *d_matrix = d_matrix_of(row), *d_vector = d_matrix + D * wide;
            for (int64_t u = 0; u < wide; u += LANES) {
                const Vector s = weight * load(slope + u), t = weight * load(constant + u), c = load(&thread.vector[u]);
                Vector of_sum = static_cast<float>(n) * c;  // the sum of h
                store(offset + u, s * c + t);
                for (int64_t i = 0; i < D; ++i) {
                    const Vector m = load(&thread.matrix[i * wide + u]);
                    of_sum += sum[i] * m;
                    store(sloped + i * wide + u, m * s);
                    store(d_matrix + i * wide + u, load(d_matrix + i * wide + u) + sum[i] * load(offset + u));
                }
                store(d_vector + u, load(d_vector + u) + s * of_sum + static_cast<float>(n) * t);
            }
            product(D, wide, D, outer, wide_D, 1, sloped, wide, nullptr, d_matrix, wide);
            product(D, wide_D, width_[0], sloped, wide, 1, matrix_T, wide_D, zeros_.data(), to_key, wide_D);
            product(1, wide_D, width_[0], offset, wide, 1, matrix_T, wide_D, zeros_.data(), to_key_0, wide_D);
            for_row(row, thread, [&](int64_t first, int64_t count) {
                float* d_key = d_key_ + (begin + first) * wide_D;
                product(count, wide_D, D, thread.keys.data(), wide_D, 1, to_key, wide_D, nullptr, d_key, wide_D);
                for (int64_t j = 0; j < count; ++j)
                    for (int64_t i = 0; i < wide_D; i += LANES, d_key += LANES) store(d_key, load(d_key) + load(to_key_0 + i));
            });
            finish_row(row, d_matrix, d_vector, gradients);
        }
    }

    // Call work(first, count) for each tile of a row, with its keys.
    template <class Work>
    void for_row(int64_t row, Thread& thread, const Work& work) const {
        const int64_t n = offset(row + 1) - offset(row);
        for (int64_t first = 0; first < n; first += TILE) {
            const int64_t count = std::min(TILE, n - first);
            thread.segments.assign(1, {row, first, 0, count});
            gather_keys(thread);
            work(first, count);
        }
    }

    // From the matrix and vector of a row, P + diag(q) R and B^T q + b, to parameters and query.
    void finish_row(int64_t row, const float* d_matrix, const float* d_vector, float* gradients) const {
        const int64_t wide = wide_[0], D = n_inputs_;
        const float *q = of_.query + row * D, *R = blocks_.data() + D * wide, *B = R + D * wide;
        float *d_P = gradients, *d_R = d_P + D * wide, *d_B = d_R + D * wide, *d_bias = gradients + bias_at_[0];
        add_rows(d_vector, 1, wide, d_bias);
        for (int64_t i = 0; i < D; ++i) {
            Vector sum{};
            for (int64_t u = i * wide; u < (i + 1) * wide; u += LANES) {
                const Vector m = load(d_matrix + u), v = load(d_vector + u - i * wide);
                store(d_P + u, load(d_P + u) + m);
                store(d_R + u, load(d_R + u) + q[i] * m);
                store(d_B + u, load(d_B + u) + q[i] * v);
                sum += load(R + u) * m + load(B + u) * v;
            }
            of_.d_query[row * D + i] = sum_of(sum);
        }
    }

    void sum_gradients() {
        Buffer total(n_gradients_);
        constexpr int64_t CHUNK = 4096;
        team_.share_out((n_gradients_ + CHUNK - 1) / CHUNK, [&](int64_t part, int) {
            const int64_t stop = std::min(n_gradients_, (part + 1) * CHUNK);
            for (int64_t s = 0; s < n_shards(); ++s)
                for (int64_t i = part * CHUNK; i < stop; ++i) total[i] += gradients_of(s)[i];
        });
        const int64_t D = n_inputs_, wide = wide_[0], n_blocks = plain_ ? 1 : 3;
        for (int64_t b = 0; b < n_blocks; ++b)
            for (int64_t i = 0; i < D; ++i)
                for (int64_t u = 0; u < width_[0]; ++u)
                    of_.d_weight[0][u * n_blocks * D + b * D + i] = total[(b * D + i) * wide + u];
        for (int64_t l = 0; l < depth_; ++l) {
            std::copy_n(&total[bias_at_[l]], width_[l], of_.d_bias[l]);
            const int64_t n = l + 1 < depth_ ? width_[l + 1] : 1;
            for (int64_t v = 0; v < n; ++v)
                std::copy_n(&total[weight_at_[l] + v * wide_[l]], width_[l], of_.d_weight[l + 1] + v * width_[l]);
        }
        of_.d_bias[depth_][0] = total[output_at_];
    }

    // Each part has some rows of the table, and goes through all positions in order.
    void scatter() {
        const int64_t n_parts = team_.size();
        team_.share_out(n_parts, [&](int64_t part, int) {
            const int64_t low = of_.n_table * part / n_parts, high = of_.n_table * (part + 1) / n_parts;
            std::fill(of_.d_table + low * n_inputs_, of_.d_table + high * n_inputs_, 0.0f);
            for (int64_t p = 0; p < n_positions_; ++p) {
                const int64_t key = of_.at ? of_.at[p] : p;
                if (key < low || key >= high) continue;
                float* to = of_.d_table + key * n_inputs_;
                const float* from = d_key_ + p * wide_inputs_;
                for (int64_t i = 0; i < n_inputs_; ++i) to[i] += from[i];
            }
        });
    }

    const Perceptron& of_;
    const bool plain_;
    const int64_t depth_;
    Team team_;
    int64_t n_inputs_, wide_inputs_, n_positions_, n_gradients_ = 0, output_at_ = 0;
    std::vector<int64_t> width_, wide_, shards_, bias_at_, weight_at_, sums_at_;
    Buffer blocks_, blocks_T_, zeros_;
    std::vector<Buffer> bias_, next_, back_;
    std::vector<Gate> gates_;
    float *table_ = nullptr, *gradients_ = nullptr, *direct_ = nullptr, *d_key_ = nullptr, *d_matrices_ = nullptr;
    std::vector<std::unique_ptr<Thread>> threads_;
};

// Whether there was memory enough.
int run(const Perceptron* of, void (Pass::*pass)()) {
    try {
        Pass whole(*of);
        (whole.*pass)();
        return 1;
    } catch (const std::bad_alloc&) {
        return 0;
    }
}

}  // namespace

extern "C" {

int64_t skmars_lanes() { return LANES; }
int64_t skmars_fields() { return sizeof(Perceptron); }
int skmars_train(const Perceptron* of) { return run(of, &Pass::train); }
int skmars_predict(const Perceptron* of) { return run(of, &Pass::predict); }
int skmars_backward(const Perceptron* of) { return run(of, &Pass::backward); }

}  // extern "C"
