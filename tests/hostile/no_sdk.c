/* Libraries made without the SDK that export the entry symbol and lie about what is behind it. */
#include <stdint.h>

struct header {
    char magic[32];
    uint32_t major, minor;
    void *functions[16];
};

#ifdef OTHER_GENERATION
/* Another generation of the ABI library. */
struct header _1as_0lib_1header_0root_bmodule_bloader = {"abi_stable library of the future", 9, 9, {0}};
#endif

#ifdef GARBAGE
/* The right words, and nothing behind them. MAGIC is the header's 32 bytes. */
struct header _1as_0lib_1header_0root_bmodule_bloader = {MAGIC, 0, 11, {(void *)8, (void *)8, (void *)8, (void *)8}};
#endif

#ifdef A_FUNCTION
/* A function where data is expected. */
int _1as_0lib_1header_0root_bmodule_bloader(void) { return 7; }
#endif

#ifdef A_STRING_ONLY
/* The entry symbol's name, but not as a symbol. */
const char *name = "_1as_0lib_1header_0root_bmodule_bloader";
#endif
