/* Convolution with a kernel that a small network gives for every edge and orientation, and its
 * gradient. REAL is float or double, and BITS its size.
 *
 * A tile of rows goes through the whole network while it stays in the cache: no kernel, basis or
 * hidden unit of all edges is ever in memory, and the gradient makes them again. The work is cut
 * into shares, some orientations of some edges: those of the same edges write to different places,
 * and every slice of the edges has its own copy of the results, which the caller adds up.
 */
#include "network.h"
#include "offsets.h"

/* Shares: the edges in slices, and the orientations order[bounds[i]] .. order[bounds[i + 1] - 1],
 * with which their opposites are. */
typedef struct {
    const int64_t *order, *bounds;
    int64_t slices, parts, threads;
} division;

static share share_of(const problem *p, const division *d, int64_t i)
{
    int64_t slice = i / d->parts, part = i % d->parts;
    return (share){p->edges * slice / d->slices, p->edges * (slice + 1) / d->slices,
                   d->bounds[part + 1] - d->bounds[part], d->order + d->bounds[part]};
}

/* The rows of x and of y, one or two of each, that the kernel of an edge and orientation joins. */
static inline int messages(const problem *p, int64_t edge, int64_t o, int64_t *from, int64_t *to)
{
    int64_t source = p->source[edge], target = p->target[edge], all = p->orientations;
    from[0] = (source * all + o) * p->channels, to[0] = (target * all + o) * p->channels;
    if (!p->opposite || source == target)
        return 1;
    o = p->opposite[o];
    from[1] = (target * all + o) * p->channels, to[1] = (source * all + o) * p->channels;
    return 2;
}

static inline void add_product(REAL *sum, const REAL *a, const REAL *b, int64_t count)
{
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        store(sum + i, load(sum + i) + load(a + i) * load(b + i));
    for (; i < count; i++)
        sum[i] += a[i] * b[i];
}

/* The orientations of row r. */
static inline share orientations_of(const tile *t, share s, int64_t r)
{
    if (t->orientation[r] != EVERY)
        s.count = 1, s.orientations = t->orientation + r;
    return s;
}

static void send(const state *s, const problem *p, const network *w, share all, REAL *y)
{
    for (int64_t r = 0; r < s->rows.count; r++) {
        share part = orientations_of(&s->rows, all, r);
        for (int64_t i = 0; i < part.count; i++) {
            int64_t from[2], to[2];
            int count = messages(p, s->rows.edge[r], part.orientations[i], from, to);
            for (int k = 0; k < count; k++)
                add_product(y + to[k], s->kernel + r * w->channels, p->x + from[k], p->channels);
        }
    }
}

/* The gradient of the kernel and, unless by_x is null, of x. */
static void send_back(const state *s, const problem *p, const network *w, share all,
                      const REAL *by_y, REAL *by_x)
{
    for (int64_t r = 0; r < s->rows.count; r++) {
        share part = orientations_of(&s->rows, all, r);
        const REAL *kernel = s->kernel + r * w->channels;
        REAL *by_kernel = s->by_kernel + r * w->channels;
        memset(by_kernel, 0, w->channels * sizeof(REAL));
        for (int64_t i = 0; i < part.count; i++) {
            int64_t from[2], to[2];
            int count = messages(p, s->rows.edge[r], part.orientations[i], from, to);
            for (int k = 0; k < count; k++) {
                add_product(by_kernel, by_y + to[k], p->x + from[k], p->channels);
                if (by_x)
                    add_product(by_x + from[k], by_y + to[k], kernel, p->channels);
            }
        }
    }
}

/* y (slices, targets, orientations, channels), which holds zeros, is increased. Returns whether
 * memory ran out. */
int convolve(const problem *p, const division *d, REAL *y)
{
    network w;
    memory weights = {0};
    int failed = !make_network(&w, p, &weights);
#pragma omp parallel for schedule(static, 1) num_threads(d->threads) if (d->threads > 1)
    for (int64_t i = 0; i < d->slices * d->parts; i++) {
        state s;
        memory values = {0};
        share all = share_of(p, d, i);
        int64_t edge = all.first, o = 0;
        REAL *copy = y + i / d->parts * p->targets * p->orientations * p->channels;
        if (failed || !make_state(&s, p, &w, 0, &values)) {
            failed = 1;
            continue;
        }
        while (edge < all.last) {
            fill(&s.rows, p, all, &edge, &o, 0);
            evaluate(&s, p, &w);
            make_kernel(&s, p, &w);
            send(&s, p, &w, all, copy);
        }
        free(values.start);
    }
    free(weights.start);
    return failed;
}

/* Copy i of the gradients, and the copy of that of x for its slice. */
static gradients copy_of(const problem *p, const gradients *g, int64_t i, int64_t slice)
{
    int64_t inputs = p->monomials + p->inputs;
#define COPY(name, size, copy) (g->name ? g->name + (copy) * (size) : 0)
    return (gradients){
        COPY(x, p->sources * p->orientations * p->channels, slice),
        COPY(offsets, p->edges * p->n, i),
        COPY(axes, p->frames * p->orientations * p->m * p->n, i),
        COPY(scalars, p->edges * p->inputs, i),
        COPY(w1, p->hidden * inputs, i),
        COPY(b1, p->hidden, i),
        COPY(w2, p->basis * p->hidden, i),
        COPY(b2, p->basis, i),
        COPY(w3, p->channels * p->basis, i),
    };
}

/* Bring the sums of a share out of their padded matrices. */
static void deliver(const state *s, const problem *p, const network *w, gradients g)
{
    int64_t inputs = p->monomials + p->inputs;
    for (int64_t i = 0; g.w1 && i < p->hidden; i++)
        for (int64_t k = 0; k < inputs; k++)
            g.w1[i * inputs + k] = s->by_w1[k * w->hidden + i];
    if (g.b1)
        memcpy(g.b1, s->by_w1 + inputs * w->hidden, p->hidden * sizeof(REAL));
    for (int64_t i = 0; g.w2 && i < p->basis; i++)
        memcpy(g.w2 + i * p->hidden, s->by_w2 + i * w->hidden, p->hidden * sizeof(REAL));
    if (g.b2)
        memcpy(g.b2, s->by_b2, p->basis * sizeof(REAL));
    for (int64_t i = 0; g.w3 && i < p->channels; i++)
        memcpy(g.w3 + i * p->basis, s->by_w3 + i * w->basis, p->basis * sizeof(REAL));
}

/* Gradients from that of y; those of x, offsets, axes and scalars, which hold zeros, are increased.
 * Returns whether memory ran out. */
int differentiate(const problem *p, const division *d, const REAL *by_y, const gradients *wanted)
{
    network w;
    memory weights = {0};
    int failed = !make_network(&w, p, &weights);
#pragma omp parallel for schedule(static, 1) num_threads(d->threads) if (d->threads > 1)
    for (int64_t i = 0; i < d->slices * d->parts; i++) {
        state s;
        memory values = {0};
        share all = share_of(p, d, i);
        gradients g = copy_of(p, wanted, i, i / d->parts);
        int64_t edge = all.first, o = 0;
        if (failed || !make_state(&s, p, &w, 1, &values)) {
            failed = 1;
            continue;
        }
        while (edge < all.last) {
            fill(&s.rows, p, all, &edge, &o, g.offsets != 0);
            evaluate(&s, p, &w);
            if (g.x)
                make_kernel(&s, p, &w);
            send_back(&s, p, &w, all, by_y, g.x);
            differentiate_network(&s, p, &w, &g);
            if (g.offsets || g.axes || g.scalars)
                differentiate_features(&s, p, &w, &g);
        }
        deliver(&s, p, &w, g);
        free(values.start);
    }
    free(weights.start);
    return failed;
}
