# find_package(hotreload): gives the target hotreload::hotreload.
#
# One file for both places it lies in. Installed (also inside the Python wheel) the exported targets lie beside it and
# name the built library. In a checkout nothing is built yet: the sources become part of the project that asks.
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/hotreloadTargets.cmake")
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
  include("${CMAKE_CURRENT_LIST_DIR}/hotreloadTargets.cmake")
elseif(NOT TARGET hotreload::hotreload)
  add_subdirectory("${CMAKE_CURRENT_LIST_DIR}/.." "${CMAKE_CURRENT_BINARY_DIR}/hotreload" EXCLUDE_FROM_ALL)
endif()
