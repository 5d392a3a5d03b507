import { races } from "../../support/StorageRaces.js"

races("on PostgreSQL")
