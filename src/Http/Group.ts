/**
 * Handlers of a group of the API value: for the value itself, and for another API that has the group, under whatever
 * prefix and with whatever middleware it has there.
 */
import { HttpApiBuilder, type HttpApiGroup } from "@effect/platform"
import type { Schema } from "effect"
import type { Api } from "../Api.js"

export type Groups = (typeof Api)["groups"][string]

type ApiError = Schema.Schema.Type<(typeof Api)["errorSchema"]>

export type Name = HttpApiGroup.HttpApiGroup.Name<Groups>

type Handlers<N extends Name> = HttpApiBuilder.Handlers.FromGroup<
  ApiError,
  never,
  HttpApiGroup.HttpApiGroup.WithName<Groups, N>
>

/** The platform looks at the API for the group only. */
export const make =
  <const N extends Name, Return>(
    name: N,
    build: (handlers: Handlers<N>) => HttpApiBuilder.Handlers.ValidateReturn<Return>
  ) =>
  (api: typeof Api) =>
    HttpApiBuilder.group<"cal-tokens", Groups, ApiError, never, N, Return>(api, name, build)
