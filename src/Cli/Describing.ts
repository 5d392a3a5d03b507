/** A command's description as data: what its help is made of, and what a command line is held against. */
import { stripVTControlCharacters } from "node:util"
import { CliConfig, CommandDescriptor, HelpDoc } from "@effect/cli"

/** Those of the tree, whatever they take and need. */
interface Any {
  readonly descriptor: CommandDescriptor.Command<unknown>
}

/** Nobody is asked questions here, and the log has a variable. */
export const config: CliConfig.CliConfig = CliConfig.make({ isCaseSensitive: true, showBuiltIns: false })

/** An option, such as `--port N`, or an argument, such as `<user>`. */
export interface Part {
  readonly title: string
  readonly about: string
}

export interface Description {
  readonly name: string
  readonly about: string
  readonly args: ReadonlyArray<Part>
  readonly options: ReadonlyArray<Part>
}

export const of = ({ descriptor }: Any): Description => {
  const help = CommandDescriptor.getHelp(descriptor, config)
  const parts = partsOf(help)
  return {
    name: [...CommandDescriptor.getNames(descriptor)].join(),
    // What stands below the heading of its description.
    about: textOf(flat(help).find(({ _tag }) => _tag === "Paragraph") ?? HelpDoc.empty),
    args: parts.filter(({ title }) => !title.startsWith("-")),
    options: parts.filter(({ title }) => title.startsWith("-"))
  }
}

const partsOf = (doc: HelpDoc.HelpDoc): ReadonlyArray<Part> =>
  flat(doc).flatMap((each) =>
    each._tag === "DescriptionList"
      ? each.definitions.map(([title, body]) => {
          // The library says first what type it is, and last that it may be left out.
          const [, about = HelpDoc.empty, ...more] = flat(body)
          const name = textOf(HelpDoc.p(title))
          return { title: name.startsWith("<") && more.length > 0 ? `[${name}]` : name, about: textOf(about) }
        })
      : []
  )

const flat = (doc: HelpDoc.HelpDoc): ReadonlyArray<HelpDoc.HelpDoc> =>
  doc._tag === "Sequence" ? [...flat(doc.left), ...flat(doc.right)] : doc._tag === "Empty" ? [] : [doc]

const textOf = (doc: HelpDoc.HelpDoc): string =>
  stripVTControlCharacters(HelpDoc.toAnsiText(doc)).replace(/\s+/g, " ").trim()
