/* The selective scan as it is defined, token after token, for 16 channels at a time: their states
   stay in the cache and each line below is a few vector instructions. See scan_native.py. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

/* exp(x) of x <= 0 to about one unit in the last place (Cephes expf), in steps that vectorise. */
static inline float decay(float x) {
  x = x < -87.0f ? -87.0f : x;
  float n = rintf(x * 1.44269504f);
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits = ((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

/* x, delta, y: (length, channels); a: (channels, state); b, c: (length, state); lanes of them all
   from channel `first` on. */
static void scan_lanes(const float *x, const float *delta, const float *a, const float *b,
                       const float *c, float *y, long length, long channels, long state,
                       long first, long lanes) {
  float h[state][LANES], rate[state][LANES];
  memset(h, 0, sizeof h);
  memset(rate, 0, sizeof rate);
  for (long n = 0; n < state; n++)
    for (long i = 0; i < lanes; i++) rate[n][i] = a[(first + i) * state + n];
  for (long t = 0; t < length; t++) {
    float input[LANES] = {0}, step[LANES] = {0}, output[LANES] = {0};
    memcpy(input, x + t * channels + first, lanes * sizeof(float));
    memcpy(step, delta + t * channels + first, lanes * sizeof(float));
    for (long n = 0; n < state; n++) {
      float into = b[t * state + n], out = c[t * state + n];
      for (int i = 0; i < LANES; i++) {
        h[n][i] = decay(step[i] * rate[n][i]) * h[n][i] + input[i] * into;
        output[i] += h[n][i] * out;
      }
    }
    memcpy(y + t * channels + first, output, lanes * sizeof(float));
  }
}

/* Blocks first_block <= k < last_block of batch * ceil(channels / LANES); shapes as in _scan. */
void scan(const float *x, const float *delta, const float *a, const float *b, const float *c,
          float *y, long length, long channels, long state, long first_block, long last_block) {
  long blocks = (channels + LANES - 1) / LANES;
  for (long k = first_block; k < last_block; k++) {
    long wide = k / blocks * length * channels, narrow = k / blocks * length * state;
    long first = k % blocks * LANES;
    long lanes = channels - first < LANES ? channels - first : LANES;
    scan_lanes(x + wide, delta + wide, a, b + narrow, c + narrow, y + wide, length, channels,
               state, first, lanes);
  }
}
