// What both ways of computing causal attention of many tokens take.

#include "vectors.h"

typedef struct {
    int64_t first, length;  // tokens
} Row;
