/* As many independent multiply-adds as the registers hold: the arithmetic ceiling of one core in float32. */
#ifdef __AVX512F__
#define WIDTH 16
#define CHAINS 24
#else
#define WIDTH 8
#define CHAINS 12
#endif

typedef float vec __attribute__((vector_size(WIDTH * 4)));

/* Does `steps` * CHAINS * WIDTH multiply-adds; returns that number. */
long fma_chains(long steps, float *sink) {
    vec sum[CHAINS], factor, term;
    for (int i = 0; i < WIDTH; i++) {
        factor[i] = 0.999f;
        term[i] = 0.001f;
    }
    for (int j = 0; j < CHAINS; j++) sum[j] = term * (float)j;
    for (long s = 0; s < steps; s++) {
#pragma GCC unroll 24
        for (int j = 0; j < CHAINS; j++) sum[j] = sum[j] * factor + term;
    }
    vec total = sum[0];
    for (int j = 1; j < CHAINS; j++) total += sum[j];
    *sink = total[0];
    return steps * CHAINS * WIDTH;
}
