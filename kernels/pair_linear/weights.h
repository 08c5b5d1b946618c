/* The weights of a layer as two matrices, and back. */
#pragma once

#include "sums.h"

enum { ORDERS = 3 }; /* pairs, nodes, scalars; after them, of what a layer is given, the constant 1 */

/* Channels of each order, of what a layer maps and of what it maps to; that of the constant is 1
 * where it counts. With roots there are more maps. */
typedef struct {
    int64_t from[ORDERS + 1], to[ORDERS], rooted;
} channels;

/* Vectors are row sums, column sums, with roots the pairs to and from these, the diagonal and nodes,
 * and so are their places. Scalars are the sums of the diagonal and of all pairs, with roots those of
 * the root, its diagonal, row and column, then the sum of nodes, and the root, then scalars and the
 * constant; their places are the diagonal and all pairs, and so on. */
typedef struct {
    int64_t vector_length, scalar_length;
    REAL *vector, *scalar;
} matrices;

/* Numbers of vectors of pairs that differ between the members of a node, of scalars of pairs and of
 * scalars of nodes. */
static inline int64_t count_levels(int64_t rooted) { return rooted ? 4 : 2; }

static inline int64_t count_sums(int64_t rooted) { return rooted ? 5 : 2; }

static inline int64_t count_totals(int64_t rooted) { return rooted ? 2 : 1; }

static inline int64_t count_vectors(const int64_t *widths, int64_t rooted)
{
    return (count_levels(rooted) + 1) * widths[0] + widths[1];
}

static inline int64_t count_scalars(const int64_t *widths, int64_t rooted)
{
    return count_sums(rooted) * widths[0] + count_totals(rooted) * widths[1] + widths[2];
}

/* Where the vector or scalar k of an order begins; basis maps name the diagonal first. */
static int64_t find_vector(const int64_t *widths, int64_t rooted, int order, int64_t k)
{
    int64_t levels = count_levels(rooted);
    return (order ? levels + 1 : k ? k - 1 : levels) * widths[0];
}

static int64_t find_scalar(const int64_t *widths, int64_t rooted, int order, int64_t k)
{
    int64_t begin = k * widths[order];
    begin += order > 0 ? count_sums(rooted) * widths[0] : 0;
    begin += order > 1 ? count_totals(rooted) * widths[1] : 0;
    return begin + (order > 2 ? widths[2] : 0);
}

enum way { IN, IN_TRANSPOSED, OUT };

/* Copy the weights of one basis map into a matrix, or out of it. */
static void copy_map(REAL *matrix, int64_t length, int64_t row, int64_t column, REAL *weight,
                     int64_t rows, int64_t columns, enum way way)
{
    REAL *to = way == IN_TRANSPOSED ? matrix + column * length + row : matrix + row * length + column;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++, weight++)
            if (way == IN)
                to[i * length + k] = *weight;
            else if (way == IN_TRANSPOSED)
                to[k * length + i] = *weight;
            else
                *weight = to[i * length + k];
}

/* Copy all weights but those of pairs to pairs; weights[3 p + q], of the maps from order p to q, may
 * be null. Transposed, the constant has no part. */
static void copy_weights(const matrices *m, const channels *c, REAL *const *weights, enum way way)
{
    int64_t rooted = c->rooted, vectors[] = {count_levels(rooted) + 1, 1, 0, 0};
    int64_t scalars[] = {count_sums(rooted), count_totals(rooted), 1, 1};
    for (int p = 0; p <= ORDERS; p++)
        for (int q = 0; q < ORDERS; q++) {
            REAL *weight = weights[ORDERS * p + q];
            int64_t rows = c->from[p], columns = c->to[q], step = rows * columns;
            if (!weight || (p == ORDERS && way == IN_TRANSPOSED))
                continue;
            if (p == 0 && q == 0)
                weight += 2 * step;
            for (int place = 0; place < vectors[q]; place++)
                for (int k = 0; k < vectors[p]; k++, weight += step)
                    copy_map(m->vector, m->vector_length, find_vector(c->from, rooted, p, k),
                             find_vector(c->to, rooted, q, place), weight, rows, columns, way);
            for (int place = 0; place < scalars[q]; place++)
                for (int k = 0; k < scalars[p]; k++, weight += step)
                    copy_map(m->scalar, m->scalar_length, find_scalar(c->from, rooted, p, k),
                             find_scalar(c->to, rooted, q, place), weight, rows, columns, way);
        }
}
