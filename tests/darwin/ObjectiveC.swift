// The part of ObjectiveC's interface that the packages use, so that their sources can be type-checked on Linux.
#if SDK_15_4
public func autoreleasepool<E, Result: ~Copyable>(invoking body: () throws(E) -> Result) throws(E) -> Result { try body() }
#else
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }
#endif
