// What can go wrong with the commands themselves, one class a cause.

/** A file cannot be read, or is not YAML. */
export class InputFileError extends Error {
  readonly code = "input_file";
  constructor(
    readonly path: string,
    detail: string,
  ) {
    super(`${path}: ${detail}`);
  }
}

/** A flag's value cannot be used, or a needed one is missing. */
export class FlagError extends Error {
  readonly code = "bad_flag";
  constructor(
    readonly flag: string,
    readonly value: string | undefined,
    expected: string,
  ) {
    super(`${flag}: ${value === undefined ? "is missing" : JSON.stringify(value)}: expected ${expected}`);
  }
}

/** A file that would be written is there already. */
export class FileExistsError extends Error {
  readonly code = "file_exists";
  constructor(readonly path: string) {
    super(`${path} is there already; --force replaces it`);
  }
}
