/**
 * Compiles src/ and writes one artifact per deployable contract, so that users never need a compiler.
 *
 *   node tools/compile.js               write artifacts/<Contract>.json
 *   node tools/compile.js --check       recompile and compare; exit 1 and name what differs
 *   node tools/compile.js --check-forge compare with the bytes that `forge build` left in out/
 *
 * The output depends only on src/, the locked OpenZeppelin sources, the compiler version and
 * tools/settings.json: no metadata hash and no paths of this machine enter the bytes.
 */
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const ROOT = path.resolve(__dirname, "..");
const CONTRACTS = [
  "ComputePool",
  "ComputeRegistry",
  "DomainRegistry",
  "PrimeAccess",
  "PrimeNetwork",
  "PrimeToken",
  "ReceiptSettlement",
  "RewardsDistributor",
  "StakeManager",
];
// EIP-170; a contract above it deploys on a development chain and on no real one.
const MAX_CODE_BYTES = 24576;
// The warning that `at` and `leave` become keywords one day: the compiler's version is pinned.
const FUTURE_KEYWORD = "6335";

function canonical(value) {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, canonical(value[key])]));
}

function readImport(name) {
  const file = name.startsWith("@") ? path.join("node_modules", name) : name;
  try {
    return { contents: fs.readFileSync(path.join(ROOT, file), "utf8") };
  } catch (error) {
    return { error: `${name}: ${error.message}` };
  }
}

function compile() {
  const settings = JSON.parse(fs.readFileSync(path.join(__dirname, "settings.json"), "utf8"));
  const outputs = ["abi", "evm.bytecode.object", "evm.deployedBytecode"];
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(
      CONTRACTS.map((name) => [`src/${name}.sol`, { content: readImport(`src/${name}.sol`).contents }]),
    ),
    settings: { ...settings, outputSelection: { "*": { "*": outputs } } },
  };
  const result = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
  const problems = (result.errors ?? []).filter((problem) => problem.errorCode !== FUTURE_KEYWORD);
  // A warning is a failure too: these sources compile without any other.
  if (problems.length > 0) {
    throw new Error(problems.map((problem) => problem.formattedMessage).join("\n"));
  }

  const settingsHash = crypto
    .createHash("sha256")
    .update(JSON.stringify(canonical(settings)))
    .digest("hex");
  return Object.fromEntries(
    CONTRACTS.map((name) => [name, artifact(name, result.contracts[`src/${name}.sol`][name], settingsHash)]),
  );
}

function artifact(name, output, settingsHash) {
  const deployed = output.evm.deployedBytecode;
  if (deployed.object.length / 2 > MAX_CODE_BYTES) throw new Error(`${name} exceeds EIP-170`);
  return {
    contractName: name,
    solc: solc.version().replace(/\.Emscripten.*$/, ""),
    settingsHash: `sha256:${settingsHash}`,
    abi: output.abi.map(canonical),
    bytecode: `0x${output.evm.bytecode.object}`,
    deployedBytecode: `0x${deployed.object}`,
    // Byte ranges [start, length] of deployedBytecode that the constructor fills in.
    immutables: Object.values(deployed.immutableReferences)
      .flat()
      .map(({ start, length }) => [start, length])
      .sort((a, b) => a[0] - b[0]),
  };
}

function serialise(value) {
  return `${JSON.stringify(value, null, 1)}\n`;
}

function differences(artifacts) {
  const folder = path.join(ROOT, "artifacts");
  const found = [];
  for (const [name, value] of Object.entries(artifacts)) {
    const file = path.join(folder, `${name}.json`);
    if (!fs.existsSync(file)) found.push(`artifacts/${name}.json is missing`);
    else if (fs.readFileSync(file, "utf8") !== serialise(value)) {
      found.push(`artifacts/${name}.json differs from what src/ compiles to`);
    }
  }
  for (const file of fs.readdirSync(folder)) {
    if (file.endsWith(".json") && !(path.basename(file, ".json") in artifacts)) {
      found.push(`artifacts/${file} belongs to no contract`);
    }
  }
  return found;
}

function forgeDifferences(artifacts) {
  return Object.entries(artifacts)
    .filter(([name, value]) => {
      const file = path.join(ROOT, "out", `${name}.sol`, `${name}.json`);
      if (!fs.existsSync(file)) throw new Error("out/ is empty: run `npx forge build` first");
      return JSON.parse(fs.readFileSync(file, "utf8")).bytecode.object !== value.bytecode;
    })
    .map(([name]) => `forge compiles ${name} to other bytes: compare foundry.toml with tools/settings.json`);
}

function main() {
  const artifacts = compile();
  if (process.argv.includes("--check") || process.argv.includes("--check-forge")) {
    const found = process.argv.includes("--check") ? differences(artifacts) : forgeDifferences(artifacts);
    for (const line of found) console.error(line);
    if (found.length > 0) process.exitCode = 1;
    else console.log(`${CONTRACTS.length} artifacts are as compiled`);
    return;
  }
  for (const [name, value] of Object.entries(artifacts)) {
    fs.writeFileSync(path.join(ROOT, "artifacts", `${name}.json`), serialise(value));
    const size = (value.deployedBytecode.length - 2) / 2;
    console.log(`${name.padEnd(20)} ${String(size).padStart(6)} bytes of code`);
  }
}

main();
