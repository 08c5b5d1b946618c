/* The weights of a layer as two matrices, and back. */
#pragma once

#include "sums.h"

enum { ORDERS = 3 }; /* pairs, nodes, scalars; after them, of what a layer is given, the constant 1 */

/* Channels of each order, of what a layer maps and of what it maps to; that of the constant is 1
 * where it counts. */
typedef struct {
    int64_t from[ORDERS + 1], to[ORDERS];
} channels;

/* Between the orders of the matrices (vectors, vector places) and (scalars, scalar places). Vectors
 * are row sums, column sums, diagonal and nodes, and so are their places; scalars are the sums of
 * the diagonal, of all pairs and of nodes, the scalars and the constant, and their places the
 * diagonal, all pairs, nodes and scalars. */
typedef struct {
    int64_t vector_length, scalar_length;
    REAL *vector, *scalar;
} matrices;

static inline int64_t count_vectors(const int64_t *widths) { return 3 * widths[0] + widths[1]; }

static inline int64_t count_scalars(const int64_t *widths)
{
    return 2 * widths[0] + widths[1] + widths[2];
}

/* Where the vector or scalar k of an order begins; basis maps name the diagonal first. */
static int64_t find_vector(const int64_t *widths, int order, int64_t k)
{
    return order ? 3 * widths[0] : k ? (k - 1) * widths[0] : 2 * widths[0];
}

static int64_t find_scalar(const int64_t *widths, int order, int64_t k)
{
    int64_t begin = k * widths[0];
    if (order)
        begin = 2 * widths[0];
    for (int before = 1; before < order; before++)
        begin += widths[before];
    return begin;
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
    static const int vectors[] = {3, 1, 0, 0}, scalars[] = {2, 1, 1, 1};
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
                    copy_map(m->vector, m->vector_length, find_vector(c->from, p, k),
                             find_vector(c->to, q, place), weight, rows, columns, way);
            for (int place = 0; place < scalars[q]; place++)
                for (int k = 0; k < scalars[p]; k++, weight += step)
                    copy_map(m->scalar, m->scalar_length, find_scalar(c->from, p, k),
                             find_scalar(c->to, q, place), weight, rows, columns, way);
        }
}
