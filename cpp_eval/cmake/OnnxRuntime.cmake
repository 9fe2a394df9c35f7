# The imported target `onnxruntime`: from -DONNXRUNTIME_ROOT=DIR or the environment's ONNXRUNTIME_ROOT (the folder of a release
# archive; nothing else is searched then), else from what setup.sh made.
set(ONNXRUNTIME_ROOT "" CACHE PATH "Folder with include/ and lib/ of ONNX Runtime")
set(onnxruntime_root "${ONNXRUNTIME_ROOT}")
if(NOT onnxruntime_root)
  set(onnxruntime_root "$ENV{ONNXRUNTIME_ROOT}")
endif()
set(onnxruntime_search HINTS ${CMAKE_CURRENT_SOURCE_DIR}/build/ort)
if(onnxruntime_root)
  if(NOT IS_ABSOLUTE "${onnxruntime_root}")
    message(FATAL_ERROR " cpp_eval: ONNXRUNTIME_ROOT: expected an absolute path, got ${onnxruntime_root}")
  endif()
  set(onnxruntime_search PATHS ${onnxruntime_root} NO_DEFAULT_PATH)
endif()
# What was found in another folder does not count.
if(NOT "${ONNXRUNTIME_SEARCHED}" STREQUAL "${onnxruntime_search}")
  unset(ONNXRUNTIME_INCLUDE_DIR CACHE)
  unset(ONNXRUNTIME_LIBRARY CACHE)
endif()
set(ONNXRUNTIME_SEARCHED "${onnxruntime_search}" CACHE INTERNAL "Where ONNX Runtime was searched")

find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h
  ${onnxruntime_search} PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY onnxruntime ${onnxruntime_search} PATH_SUFFIXES lib lib64)
if(onnxruntime_root AND NOT (ONNXRUNTIME_INCLUDE_DIR AND ONNXRUNTIME_LIBRARY))
  message(FATAL_ERROR " cpp_eval: ONNXRUNTIME_ROOT: expected include/onnxruntime_cxx_api.h and lib/libonnxruntime.so in ${onnxruntime_root}")
elseif(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
  message(FATAL_ERROR " cpp_eval: ONNX Runtime not found: run cpp_eval/setup.sh, or give -DONNXRUNTIME_ROOT=<folder of a release archive>")
endif()

add_library(onnxruntime SHARED IMPORTED)
set_target_properties(onnxruntime PROPERTIES
  IMPORTED_LOCATION ${ONNXRUNTIME_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${ONNXRUNTIME_INCLUDE_DIR}
  # The library may be newer or older than the headers: the program asks for the API by itself and says so in one line.
  INTERFACE_COMPILE_DEFINITIONS ORT_API_MANUAL_INIT)
