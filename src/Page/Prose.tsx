/** The service's sentences: the instants in them are told in the reader's time, the exact one at hand. */
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Timeline from "./Timeline.js"

interface Props {
  readonly text: string
  readonly isStop?: boolean
}

const point = (at: Format.At, now: number): string =>
  Format.dayName(at, now) === "today" ? Format.clockWithSeconds(at) : Format.point(at, now)

export const Prose = ({ isStop = false, text }: Props) => (
  <>
    {Timeline.parts(text).map((part, index) =>
      "at" in part ? <Instant key={index} at={part.at} as={point} isStop={isStop} /> : part.text
    )}
  </>
)
