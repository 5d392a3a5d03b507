/** What the package shows, by subpath: every export with its kind and signature, as TypeScript sees it. */
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import manifest from "../../package.json" with { type: "json" }

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Something that a program can name. */
export interface Export {
  readonly name: string
  /** A line, or several where a name stands for a value and a type. */
  readonly signatures: ReadonlyArray<string>
  readonly since: string | undefined
  readonly category: string | undefined
  readonly isDescribed: boolean
  /** Where it is written, from the root of the project. */
  readonly file: string
}

/** Exports of one namespace of a subpath; `name` is empty for those that have none. */
export interface Namespace {
  readonly name: string
  readonly exports: ReadonlyArray<Export>
}

export interface Subpath {
  readonly name: string
  readonly namespaces: ReadonlyArray<Namespace>
}

export const read = (): ReadonlyArray<Subpath> => {
  const faces = Object.entries(manifest.exports).flatMap(([subpath, target]) =>
    typeof target === "string"
      ? []
      : [
          {
            name: subpath.slice(2),
            file: Path.join(root, target.types.replace("dist", "src").replace(/\.d\.ts$/, ".ts"))
          }
        ]
  )
  const config = ts.getParsedCommandLineOfConfigFile(
    Path.join(root, "tsconfig.json"),
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic }
  )
  if (config === undefined) throw new Error("tsconfig.json cannot be read")
  const program = ts.createProgram({
    rootNames: faces.map(({ file }) => file),
    options: { ...config.options, incremental: false }
  })
  const checker = program.getTypeChecker()

  return faces.map(({ file, name }) => {
    const source = program.getSourceFile(file)
    const module = source && checker.getSymbolAtLocation(source)
    if (module === undefined) throw new Error(`${file} exports nothing`)
    const own: Array<Export> = []
    const namespaces: Array<Namespace> = []
    for (const symbol of sorted(checker.getExportsOfModule(module))) {
      const target = resolve(checker, symbol)
      if (target.flags & ts.SymbolFlags.ValueModule) {
        const exports = sorted(checker.getExportsOfModule(target)).map((it) => describe(checker, it))
        namespaces.push({ name: symbol.name, exports })
      } else own.push(describe(checker, symbol))
    }
    return { name, namespaces: [...(own.length === 0 ? [] : [{ name: "", exports: own }]), ...namespaces] }
  })
}

const onUnRecoverableConfigFileDiagnostic = (diagnostic: ts.Diagnostic): never => {
  throw new Error(ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n"))
}

const sorted = (symbols: ReadonlyArray<ts.Symbol>): ReadonlyArray<ts.Symbol> =>
  symbols.toSorted((one, other) => (one.name < other.name ? -1 : 1))

const resolve = (checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol =>
  symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol

const describe = (checker: ts.TypeChecker, symbol: ts.Symbol): Export => {
  const target = resolve(checker, symbol)
  const declarations = target.declarations ?? []
  const tags = target.getJsDocTags(checker)
  const tag = (name: string) => ts.displayPartsToString(tags.find((tag) => tag.name === name)?.text) || undefined
  return {
    name: symbol.name,
    signatures: declarations.map((declaration) => signature(checker, symbol.name, target, declaration)),
    since: tag("since"),
    category: tag("category"),
    isDescribed: target.getDocumentationComment(checker).length > 0,
    file: Path.relative(root, declarations[0]?.getSourceFile().fileName ?? root)
  }
}

const printer = ts.createPrinter({ removeComments: true })

const print = (node: ts.Node): string => printer.printNode(ts.EmitHint.Unspecified, node, node.getSourceFile())

/** Types as they are written; of values, the type that was given to them or is inferred. */
const signature = (checker: ts.TypeChecker, name: string, symbol: ts.Symbol, declaration: ts.Declaration): string => {
  if (ts.isClassDeclaration(declaration)) return oneLine(`class ${name}${bodyOf(checker, declaration)}`)
  if (ts.isInterfaceDeclaration(declaration) || ts.isTypeAliasDeclaration(declaration)) {
    return oneLine(print(declaration).replace(/^(?:export )?(interface|type) \w+/, (_, kind) => `${kind} ${name}`))
  }
  return oneLine(`const ${name}: ${written(declaration) ?? inferred(checker, symbol)}`)
}

/** What a class is made of, and what it adds to that. */
const bodyOf = (checker: ts.TypeChecker, { heritageClauses, members }: ts.ClassDeclaration): string => {
  const added = members.flatMap((member) => {
    const symbol = member.name && checker.getSymbolAtLocation(member.name)
    return symbol === undefined ? [] : [` ${symbol.name}: ${inferred(checker, symbol)};`]
  })
  return [
    ...(heritageClauses ?? []).map((clause) => ` ${print(clause)}`),
    added.length === 0 ? "" : ` {${added.join("")} }`
  ].join("")
}

/** The type that somebody gave a value, if that says all of it. */
const written = (declaration: ts.Declaration): string | undefined => {
  if (!ts.isVariableDeclaration(declaration)) return undefined
  const { initializer, type } = declaration
  if (type !== undefined) return print(type)
  if (initializer === undefined || !ts.isArrowFunction(initializer)) return undefined
  const { parameters, type: result, typeParameters = [] } = initializer
  // A default is a parameter that may be left out, and its type is not written.
  if (result === undefined || parameters.some((it) => it.type === undefined || it.initializer !== undefined))
    return undefined
  const generic = typeParameters.length === 0 ? "" : `<${typeParameters.map(print).join(", ")}>`
  return `${generic}(${parameters.map(print).join(", ")}) => ${print(result)}`
}

/** TypeScript keeps the words of a union in the order in which it met them, wherever that was. */
const inferred = (checker: ts.TypeChecker, symbol: ts.Symbol): string =>
  checker
    .typeToString(checker.getTypeOfSymbol(symbol), undefined, flags)
    .replace(/"[^"]*"(?: \| "[^"]*")+/g, (words) => words.split(" | ").sort().join(" | "))

const flags =
  ts.TypeFormatFlags.NoTruncation |
  ts.TypeFormatFlags.WriteArrowStyleSignature |
  ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope |
  ts.TypeFormatFlags.OmitParameterModifiers

const oneLine = (text: string): string => text.replace(/\s+/g, " ").replace(/;$/, "").trim()

/** One file for each subpath. */
export const write = ({ name, namespaces }: Subpath): string => {
  const count = namespaces.reduce((sum, { exports }) => sum + exports.length, 0)
  const title = name === "" ? "cal-tokens" : `cal-tokens/${name}`
  const parts = namespaces.map(({ exports, name }) => {
    const lines = exports.flatMap(({ signatures }) => signatures)
    return `${name === "" ? "" : `## ${name}: ${exports.length}\n\n`}\`\`\`ts\n${lines.join("\n")}\n\`\`\`\n`
  })
  return `# ${title}: ${count} exports\n\n${parts.join("\n")}`
}
