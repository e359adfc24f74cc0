#include "worker/python/task_set.h"

namespace mgr::python {
namespace {

// What the functions are bound to: the parts of the set that they need, none of which WeakSet ever
// exchanges for another object.
enum Part : Py_ssize_t { data, pending, iterating, set, remover };

PyObject* part(PyObject* parts, Part which) {
  return PyTuple_GetItem(parts, which);
}

// WeakSet's _remove(): the task of `reference` is dead.
PyObject* remove_task(PyObject* parts, PyObject* reference) {
  if (PySet_Size(part(parts, iterating)) > 0) {
    return PyList_Append(part(parts, pending), reference) == 0 ? none() : nullptr;
  }
  return PySet_Discard(part(parts, data), reference) >= 0 ? none() : nullptr;
}

// WeakSet.add()
PyObject* add_task(PyObject* parts, PyObject* task) {
  if (PyList_Size(part(parts, pending)) > 0) {
    Ref done = Ref::take(PyObject_CallMethod(part(parts, set), "_commit_removals", nullptr));
    if (!done) return nullptr;
  }
  Ref reference = Ref::take(PyWeakref_NewRef(task, part(parts, remover)));
  return reference && PySet_Add(part(parts, data), reference.get()) == 0 ? none() : nullptr;
}

PyMethodDef remove_def = {"_remove", remove_task, METH_O, nullptr};
PyMethodDef add_def = {"add", add_task, METH_O, nullptr};

}  // namespace

bool speed_up_task_set(PyObject* weak_set) {
  Ref tasks = Ref::take(PyObject_GetAttrString(weak_set, "data"));
  Ref removals = Ref::take(PyObject_GetAttrString(weak_set, "_pending_removals"));
  Ref iterations = Ref::take(PyObject_GetAttrString(weak_set, "_iterating"));
  if (!tasks || !removals || !iterations) return false;
  Ref for_remove = Ref::take(PyTuple_Pack(3, tasks.get(), removals.get(), iterations.get()));
  Ref remove =
      for_remove ? Ref::take(PyCFunction_NewEx(&remove_def, for_remove.get(), nullptr)) : Ref();
  if (!remove) return false;
  Ref for_add = Ref::take(
      PyTuple_Pack(5, tasks.get(), removals.get(), iterations.get(), weak_set, remove.get()));
  Ref add = for_add ? Ref::take(PyCFunction_NewEx(&add_def, for_add.get(), nullptr)) : Ref();
  return add && PyObject_SetAttrString(weak_set, "add", add.get()) == 0;
}

}  // namespace mgr::python
