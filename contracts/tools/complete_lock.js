/**
 * Adds to package-lock.json the platform builds that `npm install` left out.
 *
 * forge and anvil are each an npm package with one optional dependency per platform. Where a package
 * registry lacks some of those builds, `npm install` writes a lock file without them, and `npm ci`
 * then refuses it everywhere. An entry of this script has no integrity hash: npm fetches it only on
 * its own platform, and unpinned but for its version. Run it after every `npm install` that changes
 * the lock file; entries that npm wrote itself stay as they are.
 */
"use strict";
const fs = require("fs");
const path = require("path");

const FILE = path.join(__dirname, "..", "package-lock.json");
const CPUS = { amd64: "x64", arm64: "arm64" };

const lock = JSON.parse(fs.readFileSync(FILE, "utf8"));
for (const name of ["@foundry-rs/anvil", "@foundry-rs/forge"]) {
  const { version, optionalDependencies } = lock.packages[`node_modules/${name}`];
  for (const platform of Object.keys(optionalDependencies)) {
    const [os, cpu] = platform.split("-").slice(-2);
    lock.packages[`node_modules/${platform}`] ??= {
      version,
      cpu: [CPUS[cpu]],
      dev: true,
      optional: true,
      os: [os],
    };
  }
}
// npm keeps the paths in order.
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
fs.writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
