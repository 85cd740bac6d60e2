# find_package(hotreload 0.1) in a checkout: the version is that of CMakeLists.txt. An install has a generated file instead.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../CMakeLists.txt" project_line REGEX "^project\\(hotreload ")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" PACKAGE_VERSION "${project_line}")
string(REGEX MATCH "^[0-9]+\\.[0-9]+" same_minor "${PACKAGE_VERSION}")

# The rule of the generated file, SameMinorVersion: no older than asked for, major and minor number alike.
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
elseif("${PACKAGE_FIND_VERSION_MAJOR}.${PACKAGE_FIND_VERSION_MINOR}" STREQUAL same_minor)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
else()
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
endif()
