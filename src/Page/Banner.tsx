/** Says when what is shown may be old, and that the service, or a process of it, was started. */
import * as Clock from "./Clock.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Live from "./Live.js"

const Tries = ({ at }: { readonly at: number }) => {
  const left = Clock.useNow((now) => Math.ceil((at - now) / 1_000))
  return <>{left > 0 ? `It is tried again in ${left}\u00a0s.` : "It is being tried again."}</>
}

export const Banner = () => {
  const { error, is, overview, start, triesAt = 0 } = Live.useLive()
  const isBroken = is === "away" || is === "refused"
  return (
    <section class="banners" aria-label="Notices">
      {isBroken && (
        <div class="note broken row">
          <p>
            <strong>{is === "away" ? "The service does not answer." : error?.message}</strong>{" "}
            {overview !== undefined && `What is shown is of ${Format.clockWithSeconds(overview.at)}. `}
            <Tries at={triesAt} />
            {is === "refused" && error?.code === "StorageUnavailable" && (
              <>
                <br />
                Tokens that processes have in memory are served meanwhile. Do not stop the processes: they may hold new
                tokens that they can store only when the database is back.
              </>
            )}
          </p>
          <button type="button" class="button" onClick={Live.look}>
            Try now
          </button>
        </div>
      )}
      <div role="status">
        {!isBroken && start !== undefined && (
          <div class="note row">
            <p>
              {start.isAmongOthers ? "A process of the service was started" : "The service was restarted"} at{" "}
              <Instant at={start.at} as={(at) => Format.clockWithSeconds(at)} />.
            </p>
            <button type="button" class="button quiet" onClick={Live.forgetStart}>
              Close
            </button>
          </div>
        )}
      </div>
    </section>
  )
}
