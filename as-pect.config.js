// as-pect: tests written in AssemblyScript, each spec compiled into one module with the pure code that it tests.
export default {
  entries: ["test/unit/**/*.spec.ts"],
  include: [],
  disclude: [/node_modules/],
  async instantiate(memory, createImports, instantiate, binary) {
    return instantiate(binary, createImports({ env: { memory } }));
  },
  outputBinary: false,
};
