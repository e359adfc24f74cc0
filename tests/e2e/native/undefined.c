/* Needs a function that nobody has. */
void nobody_has_this(void);
__attribute__((visibility("default"))) void call_it(void) {
  nobody_has_this();
}
