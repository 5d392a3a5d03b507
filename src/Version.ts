/** Of this package: a test holds it against `package.json`, which is not at hand wherever the code is bundled. */
export const version = "0.1.0"
