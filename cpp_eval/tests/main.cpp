// Catch2 3 brings its own main; Catch2 2 makes one here.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#endif
#include "testing.hpp"
