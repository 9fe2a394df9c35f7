# Finds the libraries that this project is built on. All that is missing is said in one line, with the packages that have it;
# cmake leaves a line that begins with a space as it is.
set(missing_parts "")
set(missing_packages "")

# name: as find_package knows it, with what follows; package: Debian's.
macro(require_part name package)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    string(APPEND missing_parts ", ${name}")
    string(APPEND missing_packages " ${package}")
  endif()
endmacro()

require_part(Threads libc6-dev)
require_part(HDF5 libhdf5-dev COMPONENTS C)
require_part(JPEG libjpeg-dev)
require_part(PNG libpng-dev)
require_part(ZLIB zlib1g-dev)
require_part(nlohmann_json nlohmann-json3-dev 3)
require_part(CLI11 libcli11-dev)
if(HARNESS_EVAL_TESTS)
  require_part(Catch2 catch2)  # Debian 12 has version 2, later ones 3: both will do
endif()
if(missing_parts)
  string(SUBSTRING "${missing_parts}" 2 -1 missing_parts)
  message(FATAL_ERROR " cpp_eval: missing ${missing_parts}; Debian has them: apt-get install${missing_packages}; "
    "elsewhere CMAKE_PREFIX_PATH names the folders that they are installed in")
endif()
