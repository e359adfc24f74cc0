/* A library that another one needs. */
__attribute__((visibility("default"))) const char* neighbour_name(void) {
  return "neighbour";
}
