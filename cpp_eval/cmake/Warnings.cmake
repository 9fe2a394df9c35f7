# What every target of this project is compiled with: warnings are errors; sanitizers where asked for.
add_library(harness_eval_warnings INTERFACE)
target_compile_options(harness_eval_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor -Werror)
if(HARNESS_EVAL_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(harness_eval_warnings INTERFACE ${sanitizers})
  target_link_options(harness_eval_warnings INTERFACE ${sanitizers})
endif()
