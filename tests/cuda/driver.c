/* The calls of the CUDA driver that are answered; all others say that they are not supported. */

static const int VERSION = 13000;

int cuInit(unsigned int flags) { return 0; }

int cuDriverGetVersion(int *version) {
    *version = VERSION;
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = 1;
    return 0;
}

int cuDevicePrimaryCtxGetState(int device, unsigned int *flags, int *active) {
    *flags = 0;
    *active = 1;
    return 0;
}
